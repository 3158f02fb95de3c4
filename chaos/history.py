"""The history, and its checker in the manner of Jepsen: what clients were told, compared with the rows afterwards.

A client notes every 202, every look at a job and every result that it was shown, in the order in which it was told.
What it was told once must be true for ever: the checker knows nothing of how the system works.
"""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from chaos.invariants import Finding, Outcome, same
from shield.db import Database
from shield.models import Item, Job

ORDER = ("expanding", "queued", "running", "canceling", "ended")
GROWING = ("total", "done", "failed", "canceled")
Event = dict[str, Any]


class History:
    """Notes events in the order in which they happen, in memory and as JSON Lines."""

    def __init__(self, path: Path) -> None:
        self.events: list[Event] = []
        self._lock = threading.Lock()
        self._file = path.open("w", encoding="utf-8")

    def note(self, **event: Any) -> None:
        """Note an event now."""
        with self._lock:
            event = {"at": round(time.monotonic(), 4), **event}
            self.events.append(event)
            self._file.write(json.dumps(event) + "\n")

    def close(self) -> None:
        """Write what is not written yet."""
        self._file.close()


@dataclass(slots=True)
class JobRows:
    """A job as it stands in the rows: its items by the names that the client gave them."""

    state: str
    counts: dict[str, int]
    items: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))


def read_rows(database: Database) -> dict[str, JobRows]:
    """All jobs by id. Raises StorageUnavailable."""
    with database.read() as session:
        jobs = session.execute(select(Job.id, Job.state, Job.total, Job.done, Job.failed, Job.canceled)).all()
        found = {job.id: JobRows(job.state, {name: getattr(job, name) for name in GROWING}) for job in jobs}
        items = select(Item.job_id, Item.custom_id, Item.state, Item.verdict, Item.score, Item.error_code)
        for job_id, custom_id, state, verdict, score, error in session.execute(items):
            found[job_id].items[custom_id or ""].append(Outcome(state, verdict, score, error))
    return found


def check(events: Sequence[Event], rows: Mapping[str, JobRows]) -> list[Finding]:
    """Every promise to a client that the rows do not keep."""
    found: list[Finding] = []
    last: dict[str, Event] = {}
    keys: defaultdict[str, set[str]] = defaultdict(set)
    ids: dict[str, str] = {}
    canceled = {event["job"] for event in events if event.get("asked") == "cancel"}
    for event in events:
        match event.get("told"):
            case "accepted":
                keys[event["key"]].add(event["job"])
                # Of a source whose job is canceled, what is not expanded yet never becomes an image.
                whole = event["kind"] != "manifest" or event["job"] not in canceled
                found += _check_accepted(event, rows.get(event["job"]), whole)
            case "job":
                found += _check_look(event, last.get(event["job"]))
                last[event["job"]] = event
            case "results":
                found += _check_results(event, rows.get(event["job"]))
            case "webhook":
                found += _check_webhook(event, rows.get(event["job"]), ids)
            case "forged":
                found.append(Finding("a webhook whose signature does not verify", event["why"]))
            case _:
                pass  # a fault, a request, a trace
    found += [Finding("one key made two jobs", key) for key, made in keys.items() if len(made) > 1]
    found += _check_last(last, rows)
    known = {job for made in keys.values() for job in made}
    found += [Finding("a job that nobody was told of", job_id) for job_id in rows if job_id not in known]
    return found


def _check_accepted(event: Event, row: JobRows | None, whole: bool) -> list[Finding]:
    """What a 202 acknowledged is there, each image once, and ended."""
    if row is None:
        return [Finding("an acknowledged job is missing", event["job"])]
    named = names(event)
    missing = named - row.items.keys() if whole else set()
    doubled = [name for name, held in row.items.items() if len(held) > 1]
    open_ones = [name for name, held in row.items.items() if held[0].state in ("pending", "leased")]
    return [
        *(Finding("an acknowledged image is missing", f"{event['job']} {name}") for name in missing),
        *(Finding("an image that nobody sent", f"{event['job']} {name}") for name in row.items.keys() - named),
        *(Finding("an image has two results", f"{event['job']} {name}") for name in doubled),
        *(Finding("an acknowledged image never ended", f"{event['job']} {name}") for name in open_ones),
    ]


def _check_look(event: Event, before: Event | None) -> list[Finding]:
    """A job's state and counts only go forward."""
    found = []
    counts = event["counts"]
    if counts["done"] + counts["failed"] + counts["canceled"] + counts["pending"] != counts["total"]:
        found.append(Finding("the counts of a job do not add up", event["job"]))
    if before is None:
        return found
    if ORDER.index(event["state"]) < ORDER.index(before["state"]):
        found.append(Finding("a job went back", f"{event['job']}: {before['state']}, then {event['state']}"))
    if any(counts[name] < before["counts"][name] for name in GROWING):
        found.append(Finding("a count ran backwards", f"{event['job']}: {before['counts']}, then {counts}"))
    if before["state"] == "ended" and counts != before["counts"]:
        found.append(Finding("a job changed after its end", event["job"]))
    return found


def _check_results(event: Event, row: JobRows | None) -> list[Finding]:
    """A result that was shown is the result."""
    found = []
    for name, *told in event["results"]:
        held = row.items.get(name, []) if row else []
        if not held:
            found.append(Finding("a result that was shown is gone", f"{event['job']} {name}"))
        elif not same(held[0], Outcome(*told)):
            found.append(Finding("a result changed after it was shown", f"{event['job']} {name}: {told}, {held[0]}"))
    return found


def _check_webhook(event: Event, row: JobRows | None, ids: dict[str, str]) -> list[Finding]:
    """What was told of a job's end is so, and however often it is told it carries one id."""
    if row is None:
        return [Finding("a job that a webhook told of is gone", event["job"])]
    found = []
    if row.state != "ended" or any(event["counts"][name] != row.counts[name] for name in GROWING):
        found.append(Finding("a job changed after a webhook told of its end", event["job"]))
    if ids.setdefault(event["job"], event["id"]) != event["id"]:
        found.append(Finding("I8 one event has two webhook-ids", event["job"]))
    return found


def _check_last(last: Mapping[str, Event], rows: Mapping[str, JobRows]) -> list[Finding]:
    found = []
    for job_id, event in last.items():
        row = rows.get(job_id)
        if row is None:
            found.append(Finding("a job that was shown is gone", job_id))
        elif event["state"] == "ended" and (row.state, row.counts) != (
            "ended",
            {name: event["counts"][name] for name in GROWING},
        ):
            found.append(Finding("a job changed after its end", job_id))
    return found


def names(event: Event) -> set[str]:
    """The names of the images that a 202 acknowledged."""
    if "names" in event:
        return set(event["names"])
    return {f"{event['key']}/{number}" for number in range(event["count"])}


LOST = ("an acknowledged job is missing", "an acknowledged image is missing", "an acknowledged image never ended")
DOUBLED = (
    "an image has two results",
    "one key made two jobs",
    "an image that nobody sent",
    "a job that nobody was told of",
    "I2 a terminal item was changed",
    "I4 an item has another result than its image",
    "I7 a job ended twice",
)
POISONED = ("I6 a harmless image was called poison",)


def tally(findings: Sequence[Finding]) -> dict[str, int]:
    """How many images were lost, doubled and called poison wrongly, and how many other promises were broken."""
    counts = Counter(finding.promise for finding in set(findings))
    sums = {
        "lost": sum(counts[promise] for promise in LOST),
        "duplicated": sum(counts[promise] for promise in DOUBLED),
        "harmless_poison": sum(counts[promise] for promise in POISONED),
    }
    return sums | {"other_violations": sum(counts.values()) - sum(sums.values())}
