"""The table of policies: what each account asked for, version by version."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shield.models.base import ID, Base, partial


class PolicyVersion(Base):
    """What an account asked of its policy once. The database refuses to change or delete what is published.

    A row that is not published is the draft, of which an account has one at most. The published version with the
    highest number is in force.
    """

    __tablename__ = "policy_version"
    __table_args__ = (
        UniqueConstraint("account_id", "number"),
        UniqueConstraint("account_id", "version"),
        CheckConstraint("(number is null) = (published_at is null)", "number"),
        CheckConstraint("(version is null) = (published_at is null)", "version"),
        CheckConstraint("(published_by is null) = (published_at is null)", "published"),
        partial("uq_policy_version_draft", "published_at is null", "account_id", unique=True),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    number: Mapped[int | None]  # counts the account's published versions from 1
    version: Mapped[str | None] = mapped_column(String(100))  # as items name it: account/NUMBER
    terms: Mapped[dict[str, Any]] = mapped_column(JSON)  # of shield.policy.Terms
    note: Mapped[str] = mapped_column(String(500), default="")
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]
    published_by: Mapped[str | None] = mapped_column(String(64))
    published_at: Mapped[datetime | None]
