"""The tables. Constraints hold the invariants where SQL can: counts add up, states are known, one result an item.

Every row that an account owns carries its account_id, and no query goes without it (except a worker's, by lease).
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from shield.db import UtcDateTime
from shield.states import ChunkState, ItemState, JobState, Verdict

ID = String(48)
HASH = String(64)


def _one_of(column: str, states: type[StrEnum]) -> str:
    return f"{column} in ({', '.join(repr(state.value) for state in states)})"


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can name it too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime()}  # noqa: RUF012 - SQLAlchemy reads it from the class


class Account(Base):
    """An API customer."""

    __tablename__ = "account"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A key, by the hash of its secret part; the key itself is shown once and kept nowhere."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    secret_sha256: Mapped[str] = mapped_column(HASH, unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class LoginLink(Base):
    """A one-time link that opens a browser session."""

    __tablename__ = "login_link"

    token_sha256: Mapped[str] = mapped_column(HASH, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Weights(Base):
    """A classifier that a worker has run, from its weights card; the default policy takes its thresholds from it."""

    __tablename__ = "weights"

    sha256: Mapped[str] = mapped_column(HASH, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    version: Mapped[str] = mapped_column(String(50))
    fake_threshold: Mapped[float]
    suspect_threshold: Mapped[float]
    registered_at: Mapped[datetime]


class Job(Base):
    """One submission of many images. `pending` is what the other counts leave of the total."""

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint(_one_of("state", JobState), "state"),
        CheckConstraint("done + failed + canceled <= total", "counts"),
        CheckConstraint("fake + suspect + clear + no_face + inconclusive = done", "verdicts"),
        CheckConstraint("(state = 'ended') = (ended_at is not null)", "ended"),
        CheckConstraint("state <> 'ended' or done + failed + canceled = total", "complete"),
        Index("ix_job_account_id_id", "account_id", "id"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(200), default="")
    state: Mapped[str] = mapped_column(String(16), default=JobState.QUEUED)
    lane: Mapped[str] = mapped_column(String(16))
    total: Mapped[int]
    done: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    canceled: Mapped[int] = mapped_column(default=0)
    fake: Mapped[int] = mapped_column(default=0)
    suspect: Mapped[int] = mapped_column(default=0)
    clear: Mapped[int] = mapped_column(default=0)
    no_face: Mapped[int] = mapped_column(default=0)
    inconclusive: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    @property
    def pending(self) -> int:
        """Items that are not terminal yet."""
        return self.total - self.done - self.failed - self.canceled


class Chunk(Base):
    """Items that are leased and queued together.

    `deaths` counts the leases that ran out; a chunk with `alone` set is scanned without company, so that what kills a
    worker is found without blaming its neighbours.
    """

    __tablename__ = "chunk"
    __table_args__ = (
        CheckConstraint(_one_of("state", ChunkState), "state"),
        CheckConstraint("(state = 'leased') = (lease_token is not null)", "lease"),
        Index("ix_chunk_state_lane_id", "state", "lane", "id"),
        Index("ix_chunk_state_lease_until", "state", "lease_until"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), default=ChunkState.READY)
    lane: Mapped[str] = mapped_column(String(16))
    size: Mapped[int]
    deaths: Mapped[int] = mapped_column(default=0)
    alone: Mapped[bool] = mapped_column(default=False)
    lease_token: Mapped[str | None] = mapped_column(ID)
    lease_until: Mapped[datetime | None]


class Item(Base):
    """One image in a job: where it comes from, and, once terminal, its one result."""

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("job_id", "ordinal"),
        CheckConstraint(_one_of("state", ItemState), "state"),
        CheckConstraint(f"verdict is null or {_one_of('verdict', Verdict)}", "verdict"),
        CheckConstraint("(state = 'done') = (verdict is not null)", "result"),
        CheckConstraint("(state = 'failed') = (error_code is not null)", "error"),
        CheckConstraint("score is null or (score >= 0 and score <= 1)", "score"),
        CheckConstraint("(source_blob is null) <> (source_url is null)", "source"),
        Index("ix_item_chunk_id_ordinal", "chunk_id", "ordinal"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    chunk_id: Mapped[str] = mapped_column(ForeignKey("chunk.id"))
    ordinal: Mapped[int]
    custom_id: Mapped[str | None] = mapped_column(String(1024))
    source_blob: Mapped[str | None] = mapped_column(HASH)
    source_url: Mapped[str | None] = mapped_column(String(4096))
    state: Mapped[str] = mapped_column(String(16), default=ItemState.PENDING)
    verdict: Mapped[str | None] = mapped_column(String(16))
    reasons: Mapped[list[str]] = mapped_column(JSON, default=list)
    score: Mapped[float | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(String(1000))
    image_width: Mapped[int | None]
    image_height: Mapped[int | None]
    image_format: Mapped[str | None] = mapped_column(String(16))
    image_sha256: Mapped[str | None] = mapped_column(HASH)
    view_blob: Mapped[str | None] = mapped_column(HASH)
    weights_sha256: Mapped[str | None] = mapped_column(ForeignKey("weights.sha256"))
    policy_version: Mapped[str | None] = mapped_column(String(100))
    from_cache: Mapped[bool] = mapped_column(default=False)
    ended_at: Mapped[datetime | None]

    faces: Mapped[list["Face"]] = relationship(order_by="Face.ordinal", lazy="raise")
    weights: Mapped[Weights | None] = relationship(lazy="raise")


class Face(Base):
    """A face of an item: box and landmarks in pixels of the upright image, scores in [0, 1]."""

    __tablename__ = "face"

    item_id: Mapped[str] = mapped_column(ForeignKey("item.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    left: Mapped[float]
    top: Mapped[float]
    width: Mapped[float]
    height: Mapped[float]
    detection_score: Mapped[float]
    score: Mapped[float]
    landmarks: Mapped[list[list[float]]] = mapped_column(JSON)


class Outbox(Base):
    """What is not yet sent to the queue: written with the work, deleted once published."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    task: Mapped[str] = mapped_column(String(64))
    lane: Mapped[str] = mapped_column(String(16))
    chunk_id: Mapped[str] = mapped_column(ForeignKey("chunk.id"))
    created_at: Mapped[datetime]
