"""Bugs that are planted into real programs are found, each within seconds; and without one nothing is found."""

from pathlib import Path

import pytest

from chaos.run import Order, Result, run
from chaos.stack import Plan

pytestmark = pytest.mark.slow


def broken(folder: Path, planted: str, *kinds: str, patience: float = 20.0) -> Result:
    """A short run on SQLite with these faults alone."""
    settings = {"relay_seconds": 0.1, "lease_poll_seconds": 0.2}
    plan = Plan(
        workers=2,
        lease_seconds=1.0,
        freeze_leases=5.0,
        sweep_seconds=0.2,
        image_seconds=0.01,
        planted=planted,
        settings=settings,
    )
    return run(Order(plan, 240, len(kinds), 7, 0.8, patience, folder / "history.jsonl", kinds))


def promises(result: Result) -> set[str]:
    return {finding.promise for finding in result.findings}


def test_without_a_bug_nothing_is_found(tmp_path: Path) -> None:
    result = broken(tmp_path, "", "frozen scanned", "step claimed", "API child killed")
    assert result.findings == []
    assert result.tally == {"lost": 0, "duplicated": 0, "harmless_poison": 0, "other_violations": 0}
    assert result.images >= 240
    assert result.hits == {"scanned": 1, "claimed": 1}
    assert result.recoveries


def test_without_fencing_a_changed_result_is_found(tmp_path: Path) -> None:
    result = broken(tmp_path, "no_fencing", "frozen scanned", "frozen scanned")
    assert {"I2 a terminal item was changed", "I5 a worker past its lease wrote"} <= promises(result)
    assert result.tally["duplicated"] > 0


def test_an_acknowledgement_before_the_commit_is_found_by_the_images_that_never_end(tmp_path: Path) -> None:
    result = broken(tmp_path, "ack_before_commit", "step claimed", patience=4.0)
    assert {"an acknowledged image never ended", "I10 no item waits for ever"} <= promises(result)
    assert result.tally["lost"] > 0


def test_an_answer_before_the_commit_is_found_by_the_jobs_that_are_missing(tmp_path: Path) -> None:
    result = broken(tmp_path, "no_outbox", *["API child killed"] * 4, patience=4.0)
    assert "an acknowledged job is missing" in promises(result)
    assert result.tally["lost"] > 0
