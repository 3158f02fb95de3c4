"""A small webhook storm; the large one, and what is timed, are `make webhook-storm`."""

from pathlib import Path

import pytest

from benchmarks.webhook_storm import Installation, storm
from tests.databases import DIALECTS, fresh

EVENTS = 300


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_event_is_delivered_or_exhausted_under_one_id_whatever_the_receiver_does(
    dialect: str, tmp_path: Path
) -> None:
    with fresh(dialect, tmp_path) as url:
        place = Installation(tmp_path, url)
        record, bars = storm(place, EVENTS)
        place.database.close()
    assert {"2xx", "5xx", "hang", "reset"} == set(record["answered"])
    assert record["tries"] > EVENTS
    assert [bar.name for bar in bars if not bar.holds] == []
