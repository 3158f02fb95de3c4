"""The tables of webhooks: endpoints, events, what is owed to whom, every try, and what an account should know."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shield.models.base import ID, Base, one_of, partial
from shield.states import DeliveryState, DisabledReason, NoticeCode, Trigger


class Endpoint(Base):
    """A customer's webhook URL, the events that it is sent, and what they are signed with.

    Secrets are encrypted (shield.secret). `old_secret` holds those before the last rotations, which go on signing until
    `old_secret_until`.
    """

    __tablename__ = "endpoint"
    __table_args__ = (
        CheckConstraint(f"disabled_reason is null or {one_of('disabled_reason', DisabledReason)}", "reason"),
        CheckConstraint("(disabled_at is null) = (disabled_reason is null)", "disabled"),
        CheckConstraint("(old_secret is null) = (old_secret_until is null)", "old_secret"),
        Index("ix_endpoint_account_id_id", "account_id", "id"),
        partial("ix_endpoint_deleted_at", "deleted_at is not null", "deleted_at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    url: Mapped[str] = mapped_column(String(2048))
    description: Mapped[str] = mapped_column(String(200), default="")
    events: Mapped[list[str]] = mapped_column(JSON)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    old_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    old_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    failing_since: Mapped[datetime | None]  # of the first of the tries that all failed
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(String(16))
    deleted_at: Mapped[datetime | None]


class Event(Base):
    """A fact that happened, as it is told: thin, with ids to ask for the rest. Its id is the webhook-id."""

    __tablename__ = "event"
    __table_args__ = (UniqueConstraint("account_id", "sequence"), Index("ix_event_account_id_id", "account_id", "id"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    type: Mapped[str] = mapped_column(String(32))
    sequence: Mapped[int] = mapped_column(BigInteger)  # counts the account's events from 1
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(index=True)


class Delivery(Base):
    """One event owed to one endpoint: once because it happened, and once more for each replay."""

    __tablename__ = "delivery"
    __table_args__ = (
        CheckConstraint(one_of("state", DeliveryState), "state"),
        CheckConstraint(one_of("trigger", Trigger), "trigger"),
        CheckConstraint("(state in ('pending', 'waiting')) = (next_at is not null)", "next"),
        CheckConstraint("(state = 'sending') = (lease_token is not null)", "lease"),
        CheckConstraint("(state in ('delivered', 'exhausted', 'dropped')) = (ended_at is not null)", "ended"),
        Index("ix_delivery_account_id_endpoint_id_id", "account_id", "endpoint_id", "id"),
        partial("ix_delivery_due", "next_at is not null", "endpoint_id", "next_at"),
        partial("ix_delivery_lease_until", "lease_until is not null", "lease_until"),
        Index("ix_delivery_event_id_endpoint_id", "event_id", "endpoint_id"),
        partial("uq_delivery_once", "trigger = 'event'", "event_id", "endpoint_id", unique=True),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    event_id: Mapped[str] = mapped_column(ForeignKey("event.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoint.id"))
    trigger: Mapped[str] = mapped_column(String(16), default=Trigger.EVENT)
    state: Mapped[str] = mapped_column(String(16), default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)  # that were begun
    next_at: Mapped[datetime | None]
    lease_token: Mapped[str | None] = mapped_column(ID)
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    event: Mapped[Event] = relationship(lazy="raise")


class Attempt(Base):
    """One try of a delivery: what the endpoint answered, or why there was no answer."""

    __tablename__ = "attempt"
    __table_args__ = (CheckConstraint("(status is null) <> (error is null)", "outcome"),)

    delivery_id: Mapped[str] = mapped_column(ForeignKey("delivery.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)  # counts from 1
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    ended_at: Mapped[datetime]
    latency_ms: Mapped[int | None]  # unknown where the process died that sent it
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(1000))
    answer: Mapped[str] = mapped_column(Text, default="")  # the first 4 KiB of its body


class Notice(Base):
    """What became of an endpoint, and why: append-only, for its account to read."""

    __tablename__ = "notice"
    __table_args__ = (
        CheckConstraint(one_of("code", NoticeCode), "code"),
        Index("ix_notice_account_id_endpoint_id_id", "account_id", "endpoint_id", "id"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoint.id"))
    code: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(String(1000))
    created_at: Mapped[datetime]
