"""The tables of jobs, items, and what moves them."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, UniqueConstraint, and_
from sqlalchemy.orm import Mapped, foreign, mapped_column, relationship, remote, selectinload

from shield.models.base import HASH, ID, Base, exactly_one, one_of, partial
from shield.models.policies import PolicyVersion
from shield.states import ChunkState, ItemState, JobState, SourceKind, Verdict


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
        CheckConstraint(one_of("state", JobState), "state"),
        CheckConstraint("done + failed + canceled <= total", "counts"),
        CheckConstraint("fake + suspect + clear + no_face + inconclusive = done", "verdicts"),
        CheckConstraint("(state = 'ended') = (ended_at is not null)", "ended"),
        CheckConstraint("state <> 'ended' or done + failed + canceled = total", "complete"),
        CheckConstraint("rejected >= 0", "rejected"),
        Index("ix_job_account_id_id", "account_id", "id"),
        partial("ix_job_live", "state <> 'ended'", "state", "id"),
        partial("ix_job_ended_at", "ended_at is not null", "ended_at"),
        partial("ix_job_deleted_at", "deleted_at is not null", "deleted_at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(200), default="")
    state: Mapped[str] = mapped_column(String(16), default=JobState.QUEUED)
    lane: Mapped[str] = mapped_column(String(16))
    retry_of: Mapped[str | None] = mapped_column(ID)  # the job whose failed items these are; it may be purged by now
    total: Mapped[int]  # of its items; it grows while the job expands
    rejected: Mapped[int] = mapped_column(default=0)  # lines, members or keys of its source that are no items
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
    reason: Mapped[str | None] = mapped_column(String(64))  # why it ended early: source_failed
    reason_detail: Mapped[str | None] = mapped_column(String(1000))
    deleted_at: Mapped[datetime | None]  # the account deleted it: nobody sees it, and the purge takes its rows

    @property
    def pending(self) -> int:
        """Items that are not terminal yet."""
        return self.total - self.done - self.failed - self.canceled


class Source(Base):
    """What a job expands from: a stored manifest or zip, or an S3 prefix; and how far it is."""

    __tablename__ = "source"
    __table_args__ = (
        CheckConstraint(one_of("kind", SourceKind), "kind"),
        CheckConstraint("(blob is null) <> (url is null)", "place"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    kind: Mapped[str] = mapped_column(String(16))
    blob: Mapped[str | None] = mapped_column(HASH, index=True)
    url: Mapped[str | None] = mapped_column(String(4096))  # s3://bucket/prefix
    position: Mapped[int] = mapped_column(BigInteger, default=0)  # lines, members or keys that are dealt with
    cursor: Mapped[str] = mapped_column(String(1100), default="")  # where to go on: a byte offset, or the last key


class Rejection(Base):
    """A line, member or key of a source that is no item, and why; the first ones are kept, all are counted."""

    __tablename__ = "rejection"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # the line, member or key, counted from 1
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    code: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(String(1000))


class Upload(Base):
    """An image whose bytes do not pass a submission: stored beforehand, under a signed URL, and named by its id."""

    __tablename__ = "upload"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)  # of the signed URL


class IdempotencyKey(Base):
    """A client's repeat-safe token: the job that its first request made, and what that request asked for."""

    __tablename__ = "idempotency_key"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(HASH)  # sha256 of what was asked for
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(index=True)


class BucketGrant(Base):
    """Where in S3 an account's images may be read: every key of this bucket that begins with this prefix."""

    __tablename__ = "bucket_grant"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    bucket: Mapped[str] = mapped_column(String(63), primary_key=True)
    prefix: Mapped[str] = mapped_column(String(1024), primary_key=True)


class Chunk(Base):
    """Items that are leased and queued together.

    `turn` is its place among the chunks of all accounts: they are leased and sent by rising turn, and the turns of two
    accounts that wait at the same time interleave (shield.turns). `ahead`: it holds images of other people's servers,
    which are fetched ahead of its scan.

    `begun`: under its lease, the scan has begun. `deaths` counts the leases that ran out since; a chunk with `alone`
    set is scanned without company, so that what kills a worker is found without blaming its neighbours.
    """

    __tablename__ = "chunk"
    __table_args__ = (
        CheckConstraint(one_of("state", ChunkState), "state"),
        CheckConstraint("(state = 'leased') = (lease_token is not null)", "lease"),
        Index("ix_chunk_state_lane_ahead_turn_id", "state", "lane", "ahead", "turn", "id"),
        Index("ix_chunk_account_id_state_lane_ahead_turn", "account_id", "state", "lane", "ahead", "turn"),
        Index("ix_chunk_state_lease_until", "state", "lease_until"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), default=ChunkState.READY)
    lane: Mapped[str] = mapped_column(String(16))
    turn: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int]
    deaths: Mapped[int] = mapped_column(default=0)
    ahead: Mapped[bool] = mapped_column(default=False)
    alone: Mapped[bool] = mapped_column(default=False)
    begun: Mapped[bool] = mapped_column(default=False)
    lease_token: Mapped[str | None] = mapped_column(ID)
    lease_until: Mapped[datetime | None]


class Item(Base):
    """One image in a job: where it comes from, and, once terminal, its one result."""

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("job_id", "ordinal"),
        CheckConstraint(one_of("state", ItemState), "state"),
        CheckConstraint(f"verdict is null or {one_of('verdict', Verdict)}", "verdict"),
        CheckConstraint("(state = 'done') = (verdict is not null)", "result"),
        CheckConstraint("(state = 'failed') = (error_code is not null)", "error"),
        CheckConstraint("score is null or (score >= 0 and score <= 1)", "score"),
        CheckConstraint(exactly_one("source_blob", "source_url", "source_upload"), "source"),
        Index("ix_item_chunk_id_ordinal", "chunk_id", "ordinal"),
        Index("ix_item_job_id_state_ordinal", "job_id", "state", "ordinal"),
        partial("ix_item_verdict", "verdict is not null", "job_id", "verdict", "ordinal"),
        partial("ix_item_scanned", "state = 'done'", "account_id", "image_sha256", "weights_sha256"),
        partial("ix_item_source_blob", "source_blob is not null", "source_blob"),
        partial("ix_item_source_upload", "source_upload is not null", "source_upload"),
        partial("ix_item_view_blob", "view_blob is not null", "view_blob"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    chunk_id: Mapped[str] = mapped_column(ForeignKey("chunk.id"))
    ordinal: Mapped[int]
    custom_id: Mapped[str | None] = mapped_column(String(1024))
    source_blob: Mapped[str | None] = mapped_column(HASH)
    source_url: Mapped[str | None] = mapped_column(String(4096))  # http, https or s3
    source_upload: Mapped[str | None] = mapped_column(ForeignKey("upload.id"))
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
    image_hash: Mapped[str | None] = mapped_column(String(16))  # of its looks: 64 bits in hex (pipeline.hashes)
    view_blob: Mapped[str | None] = mapped_column(HASH)
    weights_sha256: Mapped[str | None] = mapped_column(ForeignKey("weights.sha256"))
    policy_version: Mapped[str | None] = mapped_column(String(100))
    from_cache: Mapped[bool] = mapped_column(default=False)
    ended_at: Mapped[datetime | None]

    faces: Mapped[list["Face"]] = relationship(order_by="Face.ordinal", lazy="raise")
    weights: Mapped[Weights | None] = relationship(lazy="raise")
    judged_by: Mapped[PolicyVersion | None] = relationship(  # None where it was the default of the weights card
        primaryjoin=lambda: and_(
            foreign(Item.account_id) == remote(PolicyVersion.account_id),
            foreign(Item.policy_version) == remote(PolicyVersion.version),
        ),
        viewonly=True,
        lazy="raise",
    )


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


# What a query asks for to get items with all that is shown of them.
WHOLE_ITEM = (selectinload(Item.faces), selectinload(Item.weights), selectinload(Item.judged_by))


class Outbox(Base):
    """What is not yet sent to the queue: written with the work, deleted once published."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_lane_turn_id", "lane", "turn", "id"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    task: Mapped[str] = mapped_column(String(64))
    lane: Mapped[str] = mapped_column(String(16))
    turn: Mapped[int] = mapped_column(BigInteger)
    chunk_id: Mapped[str] = mapped_column(ForeignKey("chunk.id"), index=True)
    created_at: Mapped[datetime]
