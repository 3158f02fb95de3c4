"""What goes over the wire about webhooks, as pydantic models."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from api.schemas import PAGE_LIMIT, Moment
from shield import models
from shield.items import CLEAN, either
from shield.states import DeliveryState, DisabledReason, EventType, NoticeCode, Trigger

ENDPOINT_ID = r"^whk_[0-9a-f]{27}$"
DELIVERY_ID = r"^dlv_[0-9a-f]{27}$"
NOTICE_ID = r"^ntc_[0-9a-f]{27}$"
EVENT_ID = r"^evt_[0-9a-f]{27}$"

# What can be subscribed to: nothing subscribes to a test.
Subscribed = Annotated[
    EventType,
    WithJsonSchema({"type": "string", "enum": [str(kind) for kind in EventType if kind != EventType.ENDPOINT_TEST]}),
]
Description = Annotated[str, StringConstraints(max_length=200, pattern=CLEAN)]
Secret = Annotated[str, StringConstraints(max_length=200)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _events() -> list[EventType]:
    return [kind for kind in EventType if kind != EventType.ENDPOINT_TEST]


def _checked(events: list[EventType] | None) -> list[EventType] | None:
    if events is not None and EventType.ENDPOINT_TEST in events:
        raise PydanticCustomError("no_subscription", "nothing subscribes to endpoint.test: POST .../test sends it")
    return list(dict.fromkeys(events)) if events is not None else None


EVENTS = "The types of events that it is sent."
SECRET = "whsec_ and the base64 of 24 to 64 random bytes. Absent: a good one is made."  # noqa: S105


class NewWebhook(_Body):
    """A URL, and what is to be sent there."""

    url: Url = Field(examples=["https://acme.example/hooks/shield"], description="https, and of the public internet.")
    events: list[Subscribed] = Field(default_factory=_events, min_length=1, description=f"{EVENTS} Absent: all.")
    description: Description = Field("", description="For people.")
    secret: Secret | None = Field(None, description=SECRET)

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.events = _checked(self.events) or []
        return self


class WebhookChange(_Body):
    """What is to be different; what is absent stays."""

    url: Url | None = None
    events: list[Subscribed] | None = Field(None, min_length=1, description=EVENTS)
    description: Description | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.events = _checked(self.events)
        return self


class Rotation(_Body):
    """The secret to come, where you choose it yourself."""

    secret: Secret | None = Field(None, description=SECRET)

    @model_validator(mode="before")
    @classmethod
    def _or_no_body(cls, body: object) -> object:
        return {} if body is None else body


class Replay(_Body):
    """One event by its id, or those of a time range."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [either("event_id", "string", "since"), either("since", "string", "event_id")]},
    )

    event_id: str | None = Field(None, pattern=EVENT_ID)
    since: Moment | None = Field(None, description="Events that happened then or later.")
    until: Moment | None = Field(None, description="And before then. Absent: up to now.")
    after: str | None = Field(
        None, pattern=EVENT_ID, description="Only what came after it: `last_id` of the answer before."
    )
    delivered: bool = Field(
        False, description="Of a time range: also what this webhook was sent and answered with 2xx."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.event_id is None) == (self.since is None):
            raise PydanticCustomError("one_of", "give either event_id, or since and perhaps until")
        return self


class Webhook(BaseModel):
    """A URL of yours that is told what happens."""

    id: str
    url: str
    description: str
    events: list[EventType]
    enabled: bool
    disabled_reason: DisabledReason | None = Field(description="Why it is sent nothing. Its notices say more.")
    disabled_at: datetime | None
    failing_since: datetime | None = Field(description="Since when every try has failed. Null while it answers 2xx.")
    old_secret_until: datetime | None = Field(description="Until then what signed before the last rotation signs too.")
    created_at: datetime

    @classmethod
    def of(cls, row: models.Endpoint) -> Self:
        """The wire form of a row."""
        return cls(
            id=row.id,
            url=row.url,
            description=row.description,
            events=[EventType(kind) for kind in row.events],
            enabled=row.disabled_at is None,
            disabled_reason=DisabledReason(row.disabled_reason) if row.disabled_reason else None,
            disabled_at=row.disabled_at,
            failing_since=row.failing_since,
            old_secret_until=row.old_secret_until,
            created_at=row.created_at,
        )


class SecretShown(BaseModel):
    """A signing secret. It is shown this once."""

    secret: str = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])


class WebhookMade(Webhook, SecretShown):
    """A new webhook and its secret, which is shown this once."""

    @classmethod
    def with_secret(cls, row: models.Endpoint, secret: str) -> Self:
        """The wire form of a new row."""
        return cls(secret=secret, **Webhook.of(row).model_dump())


class WebhookList(BaseModel):
    """All webhooks of the account, the oldest first."""

    data: list[Webhook]


class Delivery(BaseModel):
    """One event that is owed to one webhook, and how far that is."""

    id: str
    event_id: str = Field(description="What every try of it carries as webhook-id.")
    type: EventType
    sequence: int = Field(description="Counts the account's events in the order in which they happened.")
    trigger: Trigger
    state: DeliveryState
    attempts: int = Field(description="Tries that were begun.")
    next_at: datetime | None = Field(description="When it is tried again. Null while that happens, and at its end.")
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: models.Delivery, event: models.Event) -> Self:
        """The wire form of a row and its event."""
        return cls(
            id=row.id,
            event_id=event.id,
            type=EventType(event.type),
            sequence=event.sequence,
            trigger=Trigger(row.trigger),
            state=DeliveryState(row.state),
            attempts=row.attempts,
            next_at=row.next_at,
            created_at=row.created_at,
            ended_at=row.ended_at,
        )


class DeliveryList(BaseModel):
    """A page of deliveries, the newest first. Go on with ?after=last_id while has_more."""

    data: list[Delivery]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Attempt(BaseModel):
    """One try: what was answered, or why nothing was."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    ended_at: datetime
    latency_ms: int | None
    status: int | None
    error: str | None
    answer: str = Field(description="The first 4 KiB of the answer's body.")


class AttemptList(BaseModel):
    """The tries of a delivery, in their order."""

    data: list[Attempt]


class Replayed(BaseModel):
    """How many events are owed once more; while has_more, ask again with `after` = `last_id`."""

    count: int
    has_more: bool
    last_id: str | None = Field(description="The id of the last event that was looked at.")


class Notice(BaseModel):
    """What became of a webhook, and why."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    code: NoticeCode
    detail: str
    created_at: datetime


class NoticeList(BaseModel):
    """A page of notices, the newest first. Go on with ?after=last_id while has_more."""

    data: list[Notice]
    has_more: bool
    first_id: str | None
    last_id: str | None


class WebhookPath(BaseModel):
    """The path of a webhook."""

    webhook_id: str = Field(pattern=ENDPOINT_ID)


class DeliveryPath(WebhookPath):
    """The path of a delivery."""

    delivery_id: str = Field(pattern=DELIVERY_ID)


class DeliveryQuery(_Body):
    """A page of deliveries."""

    limit: int = Field(20, ge=1, le=PAGE_LIMIT, description="Most rows on the page.")
    after: str | None = Field(None, pattern=DELIVERY_ID, description="The id of the last one on the page before.")
    state: DeliveryState | None = None
    type: EventType | None = None


class NoticeQuery(_Body):
    """A page of notices."""

    limit: int = Field(20, ge=1, le=PAGE_LIMIT, description="Most rows on the page.")
    after: str | None = Field(None, pattern=NOTICE_ID, description="The id of the last one on the page before.")
