"""What goes over the wire, as pydantic models: the OpenAPI document is made from them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from shield import models, retention
from shield.items import CLEAN, ItemSource, S3Prefix, either
from shield.states import ItemState, JobState, Verdict

PAGE_LIMIT = 100  # most rows on one page
MOST_POSITION = 2**63 - 1  # that a database keeps
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
JOB_ID = r"^job_[0-9a-f]{27}$"
ITEM_ID = r"^itm_[0-9a-f]{27}_[0-9]{7}$"

ITEM_ERRORS = 'Stable; docs/api.md, "Errors of an item", lists every code, what it means and what to do.'

JobName = Annotated[str, StringConstraints(max_length=200, pattern=CLEAN)]


def _in_utc(moment: datetime) -> datetime:
    """The same moment; the first or the last that there is, where UTC has none for it."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return EARLIEST if moment.year == EARLIEST.year else LATEST


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class NewJob(BaseModel):
    """A job of images that are named one by one, or of every object under an S3 prefix."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [either("items", "array", "prefix"), either("prefix", "string", "items")]},
    )

    name: JobName = Field("", description="For people; need not be unique.")
    items: list[ItemSource] | None = Field(None, min_length=1, description="In the order in which results are listed.")
    prefix: S3Prefix | None = Field(
        None, examples=["s3://bucket/photos/"], description="Where this account has a grant."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.items is None) == (self.prefix is None):
            raise PydanticCustomError("one_source", "give either items or a prefix")
        return self


class Counts(BaseModel):
    """Items of a job: total = pending + done + failed + canceled, and done is the sum of the verdicts.

    `rejected` counts what is no item: bad lines of a manifest, members of a zip, keys of a prefix.
    """

    model_config = ConfigDict(from_attributes=True)

    total: int
    pending: int
    done: int
    failed: int
    canceled: int
    fake: int
    suspect: int
    clear: int
    no_face: int
    inconclusive: int
    rejected: int


class JobLinks(BaseModel):
    """Where the rest of a job is found."""

    self: str
    items: str
    results: str
    cancel: str
    retry: str


class Job(BaseModel):
    """A job: it ends when every item is done, failed or canceled; how it went is in its counts."""

    id: str
    name: str
    state: JobState
    counts: Counts
    progress: float = Field(ge=0, le=1, description="Share of the items that ended. 0 while the job expands.")
    eta_seconds: int | None = Field(
        description="Until it ends, at its rate so far. Null unless it runs and an item is scanned."
    )
    retry_of: str | None = Field(description="The job whose failed items these are; it may be deleted by now.")
    reason: str | None = Field(examples=["source_failed"], description="Why it ended early. Null where it did not.")
    reason_detail: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None = Field(description="When it is deleted by itself. Null until it has ended.")
    links: JobLinks

    @classmethod
    def of(cls, row: models.Job, moment: datetime, retention_days: float) -> Self:
        """The wire form of a row at this moment."""
        here = f"/v1/jobs/{row.id}"
        return cls(
            id=row.id,
            name=row.name,
            state=JobState(row.state),
            counts=Counts.model_validate(row),
            progress=_progress(row),
            eta_seconds=seconds_left(row, moment),
            retry_of=row.retry_of,
            reason=row.reason,
            reason_detail=row.reason_detail,
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            expires_at=retention.expires_at(row, retention_days),
            links=JobLinks(
                self=here,
                items=f"{here}/items",
                results=f"{here}/results",
                cancel=f"{here}/cancel",
                retry=f"{here}/retry",
            ),
        )


def _progress(row: models.Job) -> float:
    if row.state == JobState.EXPANDING or not row.total:  # of how many is not known yet
        return float(row.state == JobState.ENDED)
    return (row.total - row.pending) / row.total


def seconds_left(row: models.Job, moment: datetime) -> int | None:
    """Until a job ends, at its rate so far; None unless it runs and an item is scanned."""
    scanned = row.done + row.failed
    if row.state != JobState.RUNNING or row.started_at is None or not scanned:
        return None
    elapsed = max((moment - row.started_at).total_seconds(), 0.0)
    return round(row.pending * elapsed / scanned)


class Box(BaseModel):
    """A rectangle in pixels of the upright image."""

    model_config = ConfigDict(from_attributes=True)

    left: float
    top: float
    width: float
    height: float


class Face(BaseModel):
    """A face and its score."""

    box: Box
    detection_score: float = Field(ge=0, le=1)
    score: float = Field(ge=0, le=1, description="Calibrated P(fake).")
    landmarks: list[list[float]] = Field(
        description="x, y in pixels of: right eye, left eye, nose tip, mouth, right ear, left ear."
    )

    @classmethod
    def of(cls, row: models.Face) -> Self:
        """The wire form of a row."""
        return cls(
            box=Box.model_validate(row), detection_score=row.detection_score, score=row.score, landmarks=row.landmarks
        )


class Image(BaseModel):
    """The upright image: size in pixels, format as its bytes tell it, sha256 of its bytes."""

    width: int
    height: int
    format: str
    sha256: str


class Model(BaseModel):
    """The classifier that gave the scores."""

    name: str
    version: str
    weights_sha256: str


class ItemError(BaseModel):
    """Why an item failed: a stable code for programs, a sentence for people."""

    code: str = Field(examples=["not_an_image"], description=ITEM_ERRORS)
    detail: str


class Item(BaseModel):
    """One image in a job and, once its state is done, failed or canceled, its one result."""

    id: str
    custom_id: str | None
    state: ItemState
    verdict: Verdict | None
    reasons: list[str]
    score: float | None = Field(description="The highest P(fake) of a judged face, 0 to 1.")
    faces: list[Face]
    image: Image | None
    model: Model | None
    policy_version: str | None
    from_cache: bool
    error: ItemError | None

    @classmethod
    def of(cls, row: models.Item) -> Self:
        """The wire form of a row that was loaded with faces and weights."""
        weights = row.weights
        return cls(
            id=row.id,
            custom_id=row.custom_id,
            state=ItemState(row.state),
            verdict=Verdict(row.verdict) if row.verdict else None,
            reasons=row.reasons,
            score=row.score,
            faces=[Face.of(face) for face in row.faces],
            image=_image_of(row),
            model=weights and Model(name=weights.name, version=weights.version, weights_sha256=weights.sha256),
            policy_version=row.policy_version,
            from_cache=row.from_cache,
            error=ItemError(code=row.error_code, detail=row.error_detail or "") if row.error_code else None,
        )


def _image_of(row: models.Item) -> Image | None:
    if row.image_width is None or row.image_height is None or row.image_format is None or row.image_sha256 is None:
        return None
    return Image(width=row.image_width, height=row.image_height, format=row.image_format, sha256=row.image_sha256)


class JobList(BaseModel):
    """A page of jobs, newest first. Go on with ?after=last_id while has_more."""

    data: list[Job]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ItemList(BaseModel):
    """A page of items, in the order of the submission. Go on with ?after=last_id while has_more."""

    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Rejection(BaseModel):
    """A line, member or key of a job's source that is no item, counted from 1, and why."""

    model_config = ConfigDict(from_attributes=True)

    position: int
    code: str = Field(examples=["not_json"], description='Stable; docs/api.md, "Rejections", lists every code.')
    detail: str


class RejectionList(BaseModel):
    """A page of rejections, in the order of the source. Go on with ?after=last_id while has_more."""

    data: list[Rejection]
    has_more: bool
    first_id: int | None = Field(description="The position of the first one.")
    last_id: int | None


class JobPath(BaseModel):
    """The path of a job."""

    job_id: str = Field(pattern=JOB_ID)


class SubmitHeader(BaseModel):
    """What makes a request that makes a job safe to repeat."""

    key: str | None = Field(
        None,
        alias="Idempotency-Key",
        pattern=r"^[ -~]{1,255}$",
        description="Chosen by you, anew for each job: a request that is sent again with it gets the same job.",
    )


class ItemPath(BaseModel):
    """The path of an item."""

    item_id: str = Field(pattern=ITEM_ID)


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=PAGE_LIMIT, description="Most rows on the page.")


class JobQuery(_Query):
    """A page of the list of jobs."""

    after: str | None = Field(None, pattern=JOB_ID, description="The id of the last job on the page before.")


class ItemQuery(_Query):
    """A page of the items of a job."""

    after: str | None = Field(None, pattern=ITEM_ID, description="The id of the last item on the page before.")
    state: ItemState | None = None
    verdict: Verdict | None = None


class SubmitQuery(BaseModel):
    """What a body that is a manifest or a zip has no place for."""

    model_config = ConfigDict(extra="forbid")

    name: JobName = Field("", description="The job's name, where the body gives none.")


class RejectionQuery(_Query):
    """A page of the rejections of a job."""

    after: int = Field(0, ge=0, le=MOST_POSITION, description="The position of the last rejection on the page before.")


class Health(BaseModel):
    """Whether the process is alive."""

    state: str = Field(examples=["alive"])


class Readiness(BaseModel):
    """Whether work is accepted, and what is down: ready; degraded (accepted, delivered more slowly); down."""

    state: str = Field(examples=["ready"])
    database: str = Field(examples=["up"])
    storage: str = Field(examples=["up"])
    queue: str = Field(examples=["up"])


def components() -> dict[str, Any]:
    """Schemas that the OpenAPI document refers to, but which no response carries: they describe a request."""
    definitions = NewJob.model_json_schema(ref_template="#/components/schemas/{model}").pop("$defs")
    return dict(definitions)
