"""Self-tuning: what is fastest is chosen, remembered, and measured anew where the memory does not fit."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import tuning
from pipeline.engine import usable_cores
from pipeline.scan import Scanner, ScannerSettings, network_cards, open_engine
from pipeline.tuning import PASSES, Tuning, fastest, measure, tuned
from pipeline.weights import MODELS, WeightsError, load_card
from tests.pipeline.photos import COLLINS

NETWORKS = [card.name for card in network_cards(ScannerSettings())]
CHOSEN = Tuning(3, dict(zip(NETWORKS, (2, 1, 4), strict=True)))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[ScannerSettings]:
    """What was measured, in place of the measuring."""
    asked: list[ScannerSettings] = []

    def measure(settings: ScannerSettings, _: object) -> Tuning:
        asked.append(settings)
        return replace(CHOSEN, threads=settings.threads or CHOSEN.threads)

    monkeypatch.setattr(tuning, "measure", measure)
    return asked


class Clock:
    """Time that passes while a run is on, and at no other time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, list[float]]) -> None:
        self.now = 0.0
        self.runs: list[int] = []
        self._seconds: dict[int, Iterator[float]] = {number: iter(times) for number, times in seconds.items()}
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def run(self, number: int) -> None:
        self.runs.append(number)
        self.now += next(self._seconds[number])


def test_the_fastest_wins_by_its_best_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, {1: [0.03] * 4, 2: [0.09, 0.02, 0.09, 0.09], 4: [9.9, 0.025, 0.025, 0.025, 0.025]})
    assert fastest([1, 2, 4], clock.run) == 2
    assert clock.runs == [4, *[1, 2, 4] * 4]


def test_the_smallest_of_those_that_are_nearly_as_good_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, {1: [0.05] * 4, 2: [0.0205] * 4, 4: [0.02] * 5})
    assert fastest([1, 2, 4], clock.run) == 2


def test_on_a_slow_machine_each_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, {1: [2.0], 2: [1.0], 4: [9.0, 3.0]})
    assert fastest([1, 2, 4], clock.run) == 2
    assert clock.runs == [4, 1, 2, 4]


def test_a_real_measurement_chooses_among_the_candidates() -> None:
    short = load_card(MODELS / "blazeface-short.json")
    found = measure(ScannerSettings(threads=1), [short])
    assert found.threads == 1
    assert found.passes["blazeface-short"] in PASSES["onnx"]
    assert measure(ScannerSettings(), [short]).threads in tuning._halves(usable_cores())


def test_halves_end_at_one() -> None:
    assert tuning._halves(1) == [1]
    assert tuning._halves(6) == [6, 3, 1]


def test_what_was_chosen_is_remembered_and_said(
    measured: list[ScannerSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "new" / "tuning.json"
    first, second = tuned(ScannerSettings(), path), tuned(ScannerSettings(), path)
    assert first == second == ScannerSettings(threads=3, passes=CHOSEN.passes)
    assert len(measured) == 1
    words = "3 threads; images in a pass: shield-lite0 2, blazeface-back 1, blazeface-short 4"
    assert [line.endswith(words) for line in caplog.messages] == [True, True]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "found",
    [
        b"",
        b"\xff\xfe not JSON",
        b"[1, 2]",
        b'{"another machine": {"threads": 64, "passes": {}}}',
        {"threads": 3},
        {"threads": 0, "passes": CHOSEN.passes},
        {"threads": True, "passes": CHOSEN.passes},
        {"threads": "3", "passes": CHOSEN.passes},
        {"threads": 3, "passes": {**CHOSEN.passes, "shield-lite0": 1.5}},
        {"threads": 3, "passes": {**CHOSEN.passes, "shield-lite0": -1}},
        {"threads": 3, "passes": {"shield-lite0": 1}},
        {"threads": 3, "passes": {**CHOSEN.passes, "another": 1}},
        {"threads": 3, "passes": [1, 2]},
        7,
        None,
    ],
)
def test_a_file_that_is_broken_or_foreign_is_measured_for_anew(
    measured: list[ScannerSettings], tmp_path: Path, found: Any
) -> None:
    path = tmp_path / "tuning.json"
    tuned(ScannerSettings(), path)
    (key,) = json.loads(path.read_bytes())
    path.write_bytes(found if isinstance(found, bytes) else json.dumps({key: found}).encode())
    assert tuned(ScannerSettings(), path) == ScannerSettings(threads=3, passes=CHOSEN.passes)
    assert len(measured) == 2
    tuned(ScannerSettings(), path)
    assert len(measured) == 2  # and it is mended
    if isinstance(found, bytes) and found.startswith(b"{"):
        assert "another machine" in json.loads(path.read_bytes())


def test_a_file_that_cannot_be_written_costs_a_measurement_and_no_more(
    measured: list[ScannerSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file" / "tuning.json"
    path.parent.write_bytes(b"no folder")
    for _ in range(2):
        assert tuned(ScannerSettings(), path).threads == 3
    assert len(measured) == 2
    assert "the next start measures again" in caplog.text


def test_what_the_settings_name_is_taken_and_measured_for_apart(
    measured: list[ScannerSettings], tmp_path: Path
) -> None:
    path = tmp_path / "tuning.json"
    tuned(ScannerSettings(), path)
    named = ScannerSettings(threads=1, passes={"shield-lite0": 16})
    assert tuned(named, path) == replace(named, passes={**CHOSEN.passes, "shield-lite0": 16})
    assert [settings.threads for settings in measured] == [0, 1]


def test_torch_on_a_processor_is_the_reference_and_runs_as_it_is(
    measured: list[ScannerSettings], tmp_path: Path
) -> None:
    reference = ScannerSettings(engine="torch", device="cpu")
    assert tuned(reference, tmp_path / "tuning.json") == reference
    assert not measured


def test_fewer_cores_are_another_machine(
    measured: list[ScannerSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(ScannerSettings(), tmp_path / "tuning.json")
    monkeypatch.setattr(tuning, "usable_cores", lambda: 1000)
    tuned(ScannerSettings(), tmp_path / "tuning.json")
    assert len(measured) == 2


def test_weights_that_cannot_be_used_are_refused_as_by_the_scanner(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        tuned(ScannerSettings(classifier=tmp_path / "none.json"), tmp_path / "tuning.json")


def test_a_scanner_runs_with_what_was_chosen(measured: list[ScannerSettings], tmp_path: Path) -> None:
    chosen = tuned(ScannerSettings(), tmp_path / "tuning.json")
    assert [open_engine(chosen, card).images for card in network_cards(chosen)] == list(CHOSEN.passes.values())
    with Scanner(chosen) as scanner:
        (scan,) = scanner.scan([COLLINS.read_bytes()])
    assert len(scan.faces) == 1
