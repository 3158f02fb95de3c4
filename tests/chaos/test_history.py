"""The checker of histories: each promise to a client that the rows do not keep is found, and nothing else is."""

from collections import defaultdict
from typing import Any

import pytest

from chaos.history import JobRows, check, tally
from chaos.invariants import Outcome

DONE = Outcome("done", "clear", 0.25, None)
COUNTS = {"total": 2, "pending": 0, "done": 2, "failed": 0, "canceled": 0}
ACCEPTED = {"told": "accepted", "job": "job_1", "key": "k", "kind": "small", "count": 2}
TOLD = {"told": "webhook", "job": "job_1", "id": "evt_1", "type": "job.ended", "counts": COUNTS}
LOOK = {"told": "job", "job": "job_1", "state": "ended", "counts": COUNTS}


def rows(**changes: Any) -> dict[str, JobRows]:
    items = {"k/0": [DONE], "k/1": [DONE]} | changes.pop("items", {})
    row = JobRows("ended", {name: count for name, count in COUNTS.items() if name != "pending"})
    row.items = defaultdict(list, {name: held for name, held in items.items() if held})
    for name, value in changes.items():
        setattr(row, name, value)
    return {"job_1": row}


def look(state: str = "ended", **counts: int) -> dict[str, Any]:
    return LOOK | {"state": state, "counts": COUNTS | counts}


def results(*told: object) -> dict[str, Any]:
    return {"told": "results", "job": "job_1", "results": [["k/0", *told]]}


def test_a_history_that_the_rows_keep_has_no_finding() -> None:
    running = look("running", pending=1, done=1)
    assert check([ACCEPTED, running, LOOK, results("done", "clear", 0.25, None), TOLD, TOLD], rows()) == []


@pytest.mark.parametrize(
    ("events", "held", "promise", "counted"),
    [
        ([ACCEPTED], {}, "an acknowledged job is missing", "lost"),
        ([ACCEPTED], rows(items={"k/1": []}), "an acknowledged image is missing", "lost"),
        (
            [ACCEPTED],
            rows(items={"k/1": [Outcome("leased", None, None, None)]}),
            "an acknowledged image never ended",
            "lost",
        ),
        ([ACCEPTED], rows(items={"k/1": [DONE, DONE]}), "an image has two results", "duplicated"),
        ([ACCEPTED], rows(items={"k/2": [DONE]}), "an image that nobody sent", "duplicated"),
        ([ACCEPTED, ACCEPTED | {"job": "job_2"}], rows() | {"job_2": rows()["job_1"]}, "one key made two jobs", "dup"),
        ([], rows(), "a job that nobody was told of", "duplicated"),
        ([ACCEPTED, look("ended"), look("running")], rows(), "a job went back", "other_violations"),
        (
            [ACCEPTED, look("running"), look("running", done=1, pending=1)],
            rows(),
            "a count ran backwards",
            "other_violations",
        ),
        ([ACCEPTED, look("running", done=1)], rows(), "the counts of a job do not add up", "other_violations"),
        ([ACCEPTED, look(done=1, failed=1)], rows(), "a job changed after its end", "other_violations"),
        ([ACCEPTED, TOLD, TOLD | {"id": "evt_2"}], rows(), "I8 one event has two webhook-ids", "other_violations"),
        (
            [ACCEPTED, TOLD | {"counts": COUNTS | {"done": 1}}],
            rows(),
            "a job changed after a webhook told of its end",
            "other_violations",
        ),
        (
            [ACCEPTED, {"told": "forged", "why": "no match"}],
            rows(),
            "a webhook whose signature does not verify",
            "other_violations",
        ),
        (
            [ACCEPTED, results("done", "fake", 0.9, None)],
            rows(),
            "a result changed after it was shown",
            "other_violations",
        ),
        (
            [ACCEPTED, results("done", "clear", 0.25, None)],
            rows(items={"k/0": []}),
            "a result that was shown is gone",
            "other_violations",
        ),
    ],
)
def test_a_promise_that_is_broken_is_found(
    events: list[dict[str, Any]], held: dict[str, JobRows], promise: str, counted: str
) -> None:
    found = check(events, held)
    assert promise in {finding.promise for finding in found}
    sums = tally(found)
    assert sum(count for name, count in sums.items() if name.startswith(counted)) > 0


def test_of_a_source_whose_job_was_canceled_what_was_not_expanded_is_not_missing() -> None:
    events: list[dict[str, Any]] = [ACCEPTED | {"kind": "manifest"}, {"asked": "cancel", "job": "job_1"}]
    assert check(events, rows(items={"k/1": []})) == []
    assert check(events[:1], rows(items={"k/1": []})) != []
