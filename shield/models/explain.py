"""The tables of explanations: why the faces of an item score as they do, made when somebody asks."""

from datetime import datetime

from sqlalchemy import JSON, CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shield.models.base import HASH, Base, one_of, partial
from shield.states import ExplanationState, Picture


class Explanation(Base):
    """What was asked about an item, once; a worker answers. `picture`: what it was made from.

    `tries` counts the workers that have begun, and is their fence: the one that holds it until `held_until` writes.
    """

    __tablename__ = "explanation"
    __table_args__ = (
        CheckConstraint(one_of("state", ExplanationState), "state"),
        CheckConstraint(f"picture is null or {one_of('picture', Picture)}", "picture"),
        CheckConstraint("(state = 'pending') = (ended_at is null)", "ended"),
        CheckConstraint("(state = 'ready') = (picture is not null)", "ready"),
        CheckConstraint("(state = 'ready') = (weights_sha256 is not null)", "weights"),
        CheckConstraint("(state = 'failed') = (reason is not null)", "failed"),
        partial("ix_explanation_pending", "state = 'pending'", "asked_at", "item_id"),
        partial("ix_explanation_account_id", "state = 'pending'", "account_id"),
    )

    item_id: Mapped[str] = mapped_column(ForeignKey("item.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    state: Mapped[str] = mapped_column(String(16), default=ExplanationState.PENDING)
    asked_at: Mapped[datetime]
    tries: Mapped[int] = mapped_column(default=0)
    held_until: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    picture: Mapped[str | None] = mapped_column(String(16))
    weights_sha256: Mapped[str | None] = mapped_column(HASH)  # of the classifier that explained
    reason: Mapped[str | None] = mapped_column(String(64))  # why it failed

    faces: Mapped[list["ExplainedFace"]] = relationship(order_by="ExplainedFace.ordinal", lazy="raise")


class ExplainedFace(Base):
    """A face of an item, explained: the square that was cut out around it, in pixels of the upright image.

    `stability`: what the same face scores when it is re-saved, [name of the way, score in [0, 1]] each.
    """

    __tablename__ = "explained_face"

    item_id: Mapped[str] = mapped_column(ForeignKey("explanation.item_id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)  # that of the face
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    left: Mapped[float]
    top: Mapped[float]
    side: Mapped[float]
    score: Mapped[float]
    stability: Mapped[list[tuple[str, float]]] = mapped_column(JSON)
    crop_blob: Mapped[str] = mapped_column(HASH, index=True)  # what the classifier saw, a JPEG
    heatmap_blob: Mapped[str] = mapped_column(HASH, index=True)  # which parts of it spoke, a transparent PNG
