"""What goes over the wire, as pydantic models: the OpenAPI document is made from them."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from shield import models
from shield.states import ItemState, JobState, Verdict

PAGE_LIMIT = 100  # most rows on one page
CLEAN = r"^[^\x00]*$"  # PostgreSQL keeps no NUL in a text
JOB_ID = r"^job_[0-9a-f]{27}$"
ITEM_ID = r"^itm_[0-9a-f]{27}_[0-9]{7}$"

ITEM_ERRORS = 'Stable; docs/api.md, "Errors of an item", lists every code, what it means and what to do.'

_http_url = TypeAdapter(AnyHttpUrl)


def _check_url(value: str) -> str:
    """The URL as it was given. Raises PydanticCustomError where it is not http or https with a host."""
    try:
        _http_url.validate_python(value)
    except ValidationError as error:
        raise PydanticCustomError("not_http_url", "not an http or https URL with a host") from error
    return value


Url = Annotated[
    str,
    StringConstraints(max_length=4096, pattern=CLEAN),
    AfterValidator(_check_url),
    WithJsonSchema({"type": "string", "format": "uri", "pattern": "^[hH][tT][tT][pP][sS]?://", "maxLength": 4096}),
]
CustomId = Annotated[str, StringConstraints(max_length=1024, pattern=CLEAN)]
JobName = Annotated[str, StringConstraints(max_length=200, pattern=CLEAN)]


class ItemSource(BaseModel):
    """An image to fetch: its URL, and what you call it."""

    model_config = ConfigDict(extra="forbid")

    url: Url = Field(examples=["https://example.org/photo.jpg"])
    custom_id: CustomId | None = Field(None, description="Echoed in the result. Absent: null.")


class NewJob(BaseModel):
    """A job of images that are fetched by URL."""

    model_config = ConfigDict(extra="forbid")

    name: JobName = Field("", description="For people; need not be unique.")
    items: list[ItemSource] = Field(description="In the order in which results are listed.")


class Counts(BaseModel):
    """Items of a job: total = pending + done + failed + canceled, and done is the sum of the verdicts."""

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


class JobLinks(BaseModel):
    """Where the rest of a job is found."""

    self: str
    items: str
    results: str
    cancel: str


class Job(BaseModel):
    """A job: it ends when every item is done, failed or canceled; how it went is in its counts."""

    id: str
    name: str
    state: JobState
    counts: Counts
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    links: JobLinks

    @classmethod
    def of(cls, row: models.Job) -> Self:
        """The wire form of a row."""
        here = f"/v1/jobs/{row.id}"
        return cls(
            id=row.id,
            name=row.name,
            state=JobState(row.state),
            counts=Counts.model_validate(row),
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            links=JobLinks(self=here, items=f"{here}/items", results=f"{here}/results", cancel=f"{here}/cancel"),
        )


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


class JobPath(BaseModel):
    """The path of a job."""

    job_id: str = Field(pattern=JOB_ID)


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


class Health(BaseModel):
    """Whether the process is alive."""

    state: str = Field(examples=["alive"])


class Readiness(BaseModel):
    """Whether work is accepted, and what is down: ready; degraded (accepted, delivered more slowly); down."""

    state: str = Field(examples=["ready"])
    database: str = Field(examples=["up"])
    storage: str = Field(examples=["up"])
    queue: str = Field(examples=["up"])


class Fault(BaseModel):
    """What is wrong at one place of the request; `pointer` is a JSON pointer (RFC 6901), `/limit` for ?limit=."""

    pointer: str = Field(examples=["/items/3/url"])
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it. Rely on `code`; `detail` is for people and may change."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(examples=["invalid_submission"])
    detail: str
    errors: list[Fault] | None = None


def faults_of(error: ValidationError) -> list[Fault]:
    """What pydantic found, with JSON pointers."""
    return [Fault(pointer=_pointer(fault["loc"]), detail=fault["msg"]) for fault in error.errors(include_url=False)]


def _pointer(places: tuple[Any, ...]) -> str:
    return "".join("/" + str(place).replace("~", "~0").replace("/", "~1") for place in places)


def components() -> dict[str, Any]:
    """Schemas that the OpenAPI document refers to, but which no response carries: they describe a request."""
    definitions = NewJob.model_json_schema(ref_template="#/components/schemas/{model}").pop("$defs")
    return dict(definitions)
