"""The tables of review: cases that await a human, what was decided, and by what looks a decided case is found again."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shield.models.base import ID, Base, one_of, partial
from shield.models.work import Item, Job
from shield.states import Answer, CaseReason, CaseState, DecisionReason, Role, Verdict

LOOKS = String(16)  # a perceptual hash of 64 bits, in hex
UNDECIDED = "state <> 'decided'"


class Case(Base):
    """An item that awaits a human. Cases sort by their ids as they were opened.

    `priority`: the lowest comes first (shield.cases). `level`: the least role that may claim it; `lead` once it was
    escalated. A claim is a lease: whoever decides must hold its token, and past `claimed_until` others may claim it.
    """

    __tablename__ = "review_case"  # "case" is a word of SQL
    __table_args__ = (
        CheckConstraint(one_of("state", CaseState), "state"),
        CheckConstraint(f"level in ('{Role.MODERATOR}', '{Role.LEAD}')", "level"),
        CheckConstraint(one_of("reason", CaseReason), "reason"),
        CheckConstraint(one_of("verdict", Verdict), "verdict"),
        CheckConstraint(f"answer is null or answer in ('{Answer.UPHOLD}', '{Answer.OVERTURN}')", "answer"),
        CheckConstraint("(state = 'claimed') = (claim_token is not null)", "claim"),
        CheckConstraint("(claim_token is null) = (claimed_until is null)", "claim_end"),
        CheckConstraint("(claim_token is null) = (claimed_by is null)", "claimant"),
        CheckConstraint("(state = 'decided') = (answer is not null)", "decided"),
        CheckConstraint("(answer is null) = (decided_at is null)", "decided_at"),
        partial("ix_review_case_priority", UNDECIDED, "account_id", "priority", "id"),
        partial("ix_review_case_age", UNDECIDED, "account_id", "id"),
        partial("ix_review_case_score", UNDECIDED, "account_id", "score", "id"),
        partial("ix_review_case_job", UNDECIDED, "account_id", "job_id", "priority", "id"),
        partial("ix_review_case_decided", "decided_at is not null", "account_id", "decided_at", "id"),
        partial("ix_review_case_claimed_until", "claimed_until is not null", "claimed_until"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    item_id: Mapped[str] = mapped_column(ForeignKey("item.id"), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), default=CaseState.OPEN)
    level: Mapped[str] = mapped_column(String(16), default=Role.MODERATOR)
    reason: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str] = mapped_column(String(16))
    score: Mapped[float]  # of the item; 0 where it has none
    priority: Mapped[int]
    image_hash: Mapped[str | None] = mapped_column(LOOKS)
    opened_at: Mapped[datetime]
    claimed_by: Mapped[str | None] = mapped_column(String(64))  # the id of a moderator, of a key, or of a session
    claim_token: Mapped[str | None] = mapped_column(ID)
    claimed_until: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(64))
    answer: Mapped[str | None] = mapped_column(String(16))

    item: Mapped[Item] = relationship(lazy="raise")
    job: Mapped[Job] = relationship(lazy="raise")


class Decision(Base):
    """A moderator's answer, or that one was taken back (`undoes`). The database refuses to change a row.

    Rows go with their job: the purge alone deletes them.
    """

    __tablename__ = "decision"
    __table_args__ = (
        CheckConstraint(one_of("answer", Answer), "answer"),
        CheckConstraint(f"reason is null or {one_of('reason', DecisionReason)}", "reason"),
        CheckConstraint(f"(answer = '{Answer.UNDO}') = (undoes is not null)", "undoes"),
        Index("ix_decision_account_id_actor_id", "account_id", "actor", "id"),
        partial("uq_decision_undoes", "undoes is not null", "undoes", unique=True),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    case_id: Mapped[str] = mapped_column(ForeignKey("review_case.id"), index=True)
    answer: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(32))
    note: Mapped[str] = mapped_column(Text, default="")
    actor: Mapped[str] = mapped_column(String(64))
    undoes: Mapped[str | None] = mapped_column(ID)  # the decision that this one takes back
    decided_at: Mapped[datetime]

    case: Mapped[Case] = relationship(lazy="raise")


class CasePiece(Base):
    """A quarter of a decided case's perceptual hash, by which near-duplicates find it (shield.duplicates)."""

    __tablename__ = "case_piece"
    __table_args__ = (Index("ix_case_piece_account_id_piece", "account_id", "piece"),)

    case_id: Mapped[str] = mapped_column(ForeignKey("review_case.id"), primary_key=True)
    piece: Mapped[int] = mapped_column(primary_key=True)  # 16 bits, and above them which quarter it is
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
