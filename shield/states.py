"""The states of things and the only moves between them.

One table an entity; the rows' edges carry the reason for the move. Every move is one guarded UPDATE whose WHERE clause
names the sources that this table allows, so losing a race is an answer and never a corruption. docs/states.md is
generated from this file (`python -m shield states`).
"""

from enum import StrEnum
from typing import NamedTuple


class ItemState(StrEnum):
    """Where an item stands. Terminal rows never change: a retry is a new job."""

    PENDING = "pending"  # waits for a worker
    LEASED = "leased"  # a worker holds its chunk
    DONE = "done"  # scanned; it has a verdict
    FAILED = "failed"  # cannot be scanned; it has an error code
    CANCELED = "canceled"  # its job was canceled first


class ChunkState(StrEnum):
    """Where a chunk stands: the unit that is leased and queued, seconds of work."""

    READY = "ready"
    LEASED = "leased"
    DONE = "done"  # every item of it is terminal
    SPLIT = "split"  # killed two workers: its items went to chunks of one


class JobState(StrEnum):
    """Where a job stands. How it went is in its counts."""

    EXPANDING = "expanding"  # its source is durable and becomes items; scanning begins with the first of them
    QUEUED = "queued"  # durable; no worker has begun
    RUNNING = "running"  # a worker has leased a chunk of it
    CANCELING = "canceling"  # pending items are canceled; leased ones finish
    ENDED = "ended"  # every item is terminal


class Verdict(StrEnum):
    """The policy's answer for an item that is done. "clear", never "real": no detector can vouch for a photo."""

    FAKE = "fake"
    SUSPECT = "suspect"
    CLEAR = "clear"
    NO_FACE = "no_face"
    INCONCLUSIVE = "inconclusive"


class SourceKind(StrEnum):
    """What a job expands from."""

    MANIFEST = "manifest"  # JSON Lines, an image a line
    ZIP = "zip"
    PREFIX = "prefix"  # every object of an S3 bucket whose key begins with it


class EventType(StrEnum):
    """A fact that happened, by name. More may come: who receives them passes over what it does not know."""

    JOB_ENDED = "job.ended"
    JOB_CANCELED = "job.canceled"  # instead of the former
    ITEM_FLAGGED = "item.flagged"  # fake or suspect
    ITEM_FAILED = "item.failed"
    CASE_DECIDED = "case.decided"  # upheld or overturned by a human
    CASE_REOPENED = "case.reopened"  # that decision was taken back
    ENDPOINT_TEST = "endpoint.test"  # asked for by the account; no endpoint subscribes to it


class CaseState(StrEnum):
    """Where a case stands. What was decided is in its answer and its decisions."""

    OPEN = "open"  # waits for a moderator
    CLAIMED = "claimed"  # a moderator holds it by a lease
    DECIDED = "decided"  # upheld or overturned


class CaseReason(StrEnum):
    """Why a case was opened."""

    FLAGGED = "flagged"  # the verdict is fake or suspect
    SAMPLE = "sample"  # drawn at random, for quality control


class Answer(StrEnum):
    """What a moderator answers to a case."""

    UPHOLD = "uphold"  # it is a forgery
    OVERTURN = "overturn"  # it is not
    ESCALATE = "escalate"  # a lead shall decide
    SKIP = "skip"  # somebody else shall decide
    UNDO = "undo"  # the answer before it is taken back


class DecisionReason(StrEnum):
    """Why a case was decided as it was; a decision may go without."""

    IMPERSONATION = "impersonation"
    INTIMATE = "intimate"  # without consent
    FRAUD = "fraud"
    DECEPTION = "deception"  # of the public: politics, news
    GENERATED = "generated"  # forged, and none of the above
    AUTHENTIC = "authentic"
    RETOUCHED = "retouched"  # a filter, make-up, a harmless edit
    NOT_A_FACE = "not_a_face"  # art, a statue, nobody
    SATIRE = "satire"  # labelled or plain to see
    UNSURE = "unsure"
    OTHER = "other"


class ExplanationState(StrEnum):
    """Where an explanation stands."""

    PENDING = "pending"  # asked for; the next worker makes it
    READY = "ready"
    FAILED = "failed"  # cannot be made; it has a reason


class Picture(StrEnum):
    """What an explanation was made from."""

    ORIGINAL = "original"  # the very bytes that were scanned
    VIEW = "view"  # the smaller copy that people are shown, where those are gone


class DeliveryState(StrEnum):
    """Where a delivery stands: one event owed to one endpoint."""

    PENDING = "pending"  # not tried yet; the house sends it when its time has come
    SENDING = "sending"  # the house holds it by a lease
    WAITING = "waiting"  # a try failed; the house tries again when its time has come
    DELIVERED = "delivered"  # answered 2xx
    EXHAUSTED = "exhausted"  # the last try of the schedule failed
    DROPPED = "dropped"  # its endpoint was disabled


class Trigger(StrEnum):
    """Why a delivery is owed."""

    EVENT = "event"  # it happened
    REPLAY = "replay"  # the account asked for it once more


class DisabledReason(StrEnum):
    """Why an endpoint is not sent anything."""

    BY_ACCOUNT = "by_account"
    GONE = "gone"  # it answered 410
    FAILING = "failing"  # every try failed for days


class NoticeCode(StrEnum):
    """What became of an endpoint."""

    CREATED = "created"
    CHANGED = "changed"
    ROTATED = "rotated"
    ENABLED = "enabled"
    DISABLED = "disabled"
    DELETED = "deleted"


class Scope(StrEnum):
    """What an API key may do."""

    JOBS_READ = "jobs:read"  # see jobs, items and results
    JOBS_WRITE = "jobs:write"  # submit, cancel, retry and delete jobs
    REVIEW = "review"  # see cases and decide them
    ADMIN = "admin"  # manage keys and webhooks


class Role(StrEnum):
    """What a moderator may do; each may do what those before it may."""

    MODERATOR = "moderator"  # see photos, submit them, decide cases
    LEAD = "lead"  # decide what was escalated
    ADMIN = "admin"  # manage keys, webhooks, policies and people


class Edge(NamedTuple):
    """One allowed move, and why it happens."""

    source: StrEnum
    target: StrEnum
    reason: str


ITEM_EDGES = (
    Edge(ItemState.PENDING, ItemState.LEASED, "a worker leases its chunk"),
    Edge(ItemState.LEASED, ItemState.PENDING, "lease expired, or a clean release"),
    Edge(ItemState.LEASED, ItemState.DONE, "scanned and judged"),
    Edge(ItemState.LEASED, ItemState.FAILED, "cannot be fetched, decoded or scanned; poison"),
    Edge(ItemState.PENDING, ItemState.CANCELED, "the job is canceled"),
    Edge(ItemState.LEASED, ItemState.CANCELED, "the lease ends in a canceled job"),
)
CHUNK_EDGES = (
    Edge(ChunkState.READY, ChunkState.LEASED, "a worker takes it"),
    Edge(ChunkState.LEASED, ChunkState.READY, "lease expired, or a clean release"),
    Edge(ChunkState.LEASED, ChunkState.DONE, "its last item is recorded"),
    Edge(ChunkState.LEASED, ChunkState.SPLIT, "two workers died on it"),
    Edge(ChunkState.READY, ChunkState.DONE, "the job is canceled"),
)
JOB_EDGES = (
    Edge(JobState.EXPANDING, JobState.QUEUED, "its source is expanded, as far as it could be"),
    Edge(JobState.EXPANDING, JobState.CANCELING, "the account cancels it"),
    Edge(JobState.QUEUED, JobState.RUNNING, "the first chunk is leased, or was while it expanded"),
    Edge(JobState.QUEUED, JobState.CANCELING, "the account cancels it"),
    Edge(JobState.RUNNING, JobState.CANCELING, "the account cancels it"),
    Edge(JobState.QUEUED, JobState.ENDED, "its source held no item"),
    Edge(JobState.RUNNING, JobState.ENDED, "the last item is terminal"),
    Edge(JobState.CANCELING, JobState.ENDED, "the last item is terminal"),
)
CASE_EDGES = (
    Edge(CaseState.OPEN, CaseState.CLAIMED, "a moderator takes it"),
    Edge(CaseState.CLAIMED, CaseState.OPEN, "claim expired, given back, skipped, or escalated to a lead"),
    Edge(CaseState.CLAIMED, CaseState.DECIDED, "upheld or overturned"),
    Edge(CaseState.DECIDED, CaseState.OPEN, "undone; whoever undoes it claims it at once"),
)
DELIVERY_EDGES = (
    Edge(DeliveryState.PENDING, DeliveryState.SENDING, "the house leases it"),
    Edge(DeliveryState.WAITING, DeliveryState.SENDING, "its time has come"),
    Edge(DeliveryState.SENDING, DeliveryState.DELIVERED, "answered 2xx"),
    Edge(DeliveryState.SENDING, DeliveryState.WAITING, "it failed, or the lease expired"),
    Edge(DeliveryState.SENDING, DeliveryState.EXHAUSTED, "so did the last try of the schedule"),
    Edge(DeliveryState.SENDING, DeliveryState.DROPPED, "answered 410, which disables the endpoint"),
    Edge(DeliveryState.PENDING, DeliveryState.DROPPED, "its time has come, and the endpoint is disabled"),
    Edge(DeliveryState.WAITING, DeliveryState.DROPPED, "its time has come, and the endpoint is disabled"),
)
EXPLANATION_EDGES = (
    Edge(ExplanationState.PENDING, ExplanationState.READY, "a worker has made it"),
    Edge(ExplanationState.PENDING, ExplanationState.FAILED, "its picture cannot be read, or three workers died"),
)
MACHINES: dict[str, tuple[Edge, ...]] = {
    "item": ITEM_EDGES,
    "chunk": CHUNK_EDGES,
    "job": JOB_EDGES,
    "case": CASE_EDGES,
    "delivery": DELIVERY_EDGES,
    "explanation": EXPLANATION_EDGES,
}
EDGES_OF: dict[type[StrEnum], tuple[Edge, ...]] = {
    ItemState: ITEM_EDGES,
    ChunkState: CHUNK_EDGES,
    JobState: JOB_EDGES,
    CaseState: CASE_EDGES,
    DeliveryState: DELIVERY_EDGES,
    ExplanationState: EXPLANATION_EDGES,
}

ITEM_TERMINAL = (ItemState.DONE, ItemState.FAILED, ItemState.CANCELED)


def sources(target: StrEnum) -> tuple[StrEnum, ...]:
    """The states from which a move to `target` is allowed. Raises ValueError when nothing leads there."""
    found = tuple(edge.source for edge in EDGES_OF[type(target)] if edge.target == target)
    if not found:
        raise ValueError(f"no edge leads to {target!r}: it is a starting state")
    return found


def chart(name: str) -> str:
    """The state chart of one machine, as a Mermaid diagram whose edges carry reasons."""
    edges = MACHINES[name]
    targets = {edge.target for edge in edges}
    first = edges[0].source
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {edge.source} --> {edge.target}: {edge.reason}" for edge in edges]
    moving = {edge.source for edge in edges}
    lines += [f"    {state} --> [*]" for state in sorted(targets - moving)]
    return "\n".join(lines)
