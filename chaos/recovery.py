"""How long images waited that a dead or frozen worker held: from its death to the next result of what it held."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from chaos.invariants import Finding


class Loss(NamedTuple):
    """A worker that died or was frozen past its leases: its process, when, and by what."""

    pid: int
    moment: float
    kind: str


class Recovery(NamedTuple):
    """The seconds from a loss until an image that it held had a result, those in which it could not have one left out.

    That is while the database took no write, and while no worker, or no house, was up.
    """

    kind: str
    began: float
    seconds: float
    chunk: str
    waited: float  # with nothing left out


@dataclass(frozen=True, slots=True)
class Held:
    """A chunk that was lost with its worker, and its items that had no result then."""

    loss: Loss
    chunk: str
    items: frozenset[str]


def recoveries(
    traces: Iterable[dict[str, Any]],
    losses: Sequence[Loss],
    ended: Mapping[str, float],
    away: Sequence[tuple[float, float]],
) -> list[Recovery]:
    """One for each chunk that was lost and not lost once more before it had a result.

    Where it was lost once more, the first loss is measured until the second worker took it.
    """
    leases: list[dict[str, Any]] = []
    given_back: dict[str, float] = {}
    for line in sorted(traces, key=lambda line: line["moment"]):
        if line["what"] == "leased":
            leases.append(line)
        elif line["what"] == "released":
            given_back[line["token"]] = line["moment"]
    taken: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in leases:
        for item in line["items"]:
            taken[item].append(line)
    held = [one for loss in losses for one in _held(loss, leases, taken, given_back, ended)]
    lost_of: defaultdict[str, list[float]] = defaultdict(list)
    for one in held:
        for item in one.items:
            lost_of[item].append(one.loss.moment)
    taken_at = {item: [line["moment"] for line in lines] for item, lines in taken.items()}
    return [found for one in held if (found := _recovery(one, taken_at, lost_of, ended, away))]


def _held(
    loss: Loss,
    leases: Sequence[dict[str, Any]],
    taken: Mapping[str, Sequence[dict[str, Any]]],
    given_back: Mapping[str, float],
    ended: Mapping[str, float],
) -> list[Held]:
    """What this worker was the last to lease before its loss, and had neither recorded nor given back."""
    mine = [line for line in leases if line["pid"] == loss.pid and line["moment"] <= loss.moment]
    if mine and loss.kind == "step leasing":
        mine.pop()  # that lease was never committed
    found = []
    for line in mine:
        if given_back.get(line["token"], loss.moment) < loss.moment:
            continue
        items = frozenset(
            item
            for item in line["items"]
            if ended.get(item, float("inf")) > loss.moment
            and [other for other in taken[item] if other["moment"] <= loss.moment][-1] is line
        )
        if items:
            found.append(Held(loss, line["chunk"], items))
    return found


def _recovery(
    held: Held,
    taken: Mapping[str, Sequence[float]],
    lost_of: Mapping[str, Sequence[float]],
    ended: Mapping[str, float],
    away: Sequence[tuple[float, float]],
) -> Recovery | None:
    began = held.loss.moment
    over = min((ended[item] for item in held.items if item in ended), default=float("inf"))
    again = min((m for item in held.items for m in lost_of[item] if m > began), default=float("inf"))
    if again < over:
        over = min((m for item in held.items for m in taken[item] if m > began), default=again)
    if over == float("inf"):
        return None  # it never ended, and is found as lost
    left_out = sum(max(0.0, min(over, end) - max(began, start)) for start, end in away)
    return Recovery(held.loss.kind, began, over - began - left_out, held.chunk, over - began)


def late_writes(traces: Iterable[dict[str, Any]]) -> list[Finding]:
    """I5: the chunks that a worker wrote to although another had leased them since."""
    holder: dict[str, str] = {}
    found = []
    for line in sorted(traces, key=lambda line: line["moment"]):
        if line["what"] == "leased":
            holder[line["chunk"]] = line["token"]
        elif line["what"] == "recorded" and line["moved"] and holder.get(line["chunk"]) != line["token"]:
            found.append(Finding("I5 a worker past its lease wrote", line["chunk"]))
    return found


def absences(
    ups: Iterable[tuple[int, float]], downs: Iterable[tuple[int, float]], end: float
) -> list[tuple[float, float]]:
    """When none of some processes was up, from the first one on: each comes up at a moment and goes down at another."""
    alive: set[int] = set()
    found: list[tuple[float, float]] = []
    since = None
    for moment, is_up, pid in sorted([*((m, True, p) for p, m in ups), *((m, False, p) for p, m in downs)]):
        if is_up:
            alive.add(pid)
        else:
            alive.discard(pid)
        if not alive and since is None:
            since = moment
        elif alive and since is not None:
            found.append((since, moment))
            since = None
    return found if since is None else [*found, (since, end)]


def joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same moments, in spans that do not overlap."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
