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
MACHINES: dict[str, tuple[Edge, ...]] = {"item": ITEM_EDGES, "chunk": CHUNK_EDGES, "job": JOB_EDGES}
EDGES_OF: dict[type[StrEnum], tuple[Edge, ...]] = {ItemState: ITEM_EDGES, ChunkState: CHUNK_EDGES, JobState: JOB_EDGES}

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
