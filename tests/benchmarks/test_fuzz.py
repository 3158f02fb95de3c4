"""The fuzzer at a tiny size: its mutants are the same every time, reach behind headers, and end as promised."""

import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from benchmarks import mutations

FUZZ = (sys.executable, "-m", "benchmarks.fuzz")
PNG = bytearray(b"\x89PNG\r\n\x1a\n\0\0\0\x02tEXtab\0\0\0\0\0\0\0\x01IDATc\0\0\0\0")


def run(*line: str) -> str:
    return subprocess.run(line, cwd=mutations.ROOT, capture_output=True, text=True, check=True).stdout


def test_a_number_and_a_seed_give_one_mutant() -> None:
    given = mutations.photos()
    first = [mutations.mutant(1, number, given) for number in range(50)]
    assert first == [mutations.mutant(1, number, given) for number in range(50)]
    assert len(set(first)) == 50
    assert first != [mutations.mutant(2, number, given) for number in range(50)]
    assert not set(first) & set(given)


def test_a_mended_png_has_the_checksums_of_what_it_holds() -> None:
    mended = mutations.mended(PNG[:])
    assert mended[18:22] == zlib.crc32(b"tEXtab").to_bytes(4, "big")
    assert mended[31:35] == zlib.crc32(b"IDATc").to_bytes(4, "big")
    assert len(mended) == len(PNG)


@pytest.mark.slow
def test_a_short_run_holds_every_bar_and_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "fuzz.md"
    said = run(*FUZZ, "--mutants", "300", "--seed", "7", "--out", str(page))
    bars = [line.split() for line in said.splitlines() if line.startswith("bar ")]
    assert len(bars) == 8
    assert {words[-1] for words in bars} == {"holds"}
    assert "| mutants | 300 | 300 | holds |" in page.read_text()


def test_one_mutant_can_be_saved_to_look_at(tmp_path: Path) -> None:
    run(*FUZZ, "--seed", "7", "--save", "3", str(tmp_path / "mutant"))
    assert (tmp_path / "mutant").read_bytes()
