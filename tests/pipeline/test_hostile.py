"""Every file of the hostile collection ends in a scan or in a typed reason, and confinement changes none of them."""

import hashlib
import mmap
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from pipeline import decode_child
from pipeline.decode_child import RefusedError
from pipeline.images import DecodeLimits, Decoder, ImageError, sniff
from pipeline.results import ErrorCode
from pipeline.scan import Scanner, ScannerSettings
from tests.pipeline.hostile_files import COUNT, read_hostile

SECONDS = 10.0  # within which every file has its answer


@pytest.fixture(scope="module")
def files(data_folder: Path) -> dict[str, bytes]:
    files = read_hostile(data_folder)
    assert len(files) == COUNT
    return files


@pytest.mark.slow
def test_every_hostile_file_ends_in_a_scan_or_a_typed_reason_in_time(files: dict[str, bytes]) -> None:
    ends: Counter[str] = Counter()
    slow: dict[str, float] = {}
    with Scanner(ScannerSettings(view_side=1024, decoders=1)) as scanner:
        for name, content in files.items():
            started = time.monotonic()
            (scan,) = scanner.scan([content])
            if (seconds := time.monotonic() - started) > SECONDS:
                slow[name] = seconds
            ends[scan.error.code if scan.error else "scan"] += 1
    assert not slow
    assert set(ends) <= {"scan", *ErrorCode}
    assert ends["scan"] > 900


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on some of the files
def test_confinement_changes_the_outcome_of_no_hostile_file(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that a plugin imports late, or a system call that the filter forgot, would fail good images."""
    limits = DecodeLimits()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    room = mmap.mmap(-1, 3 * limits.max_pixels)
    outcomes = {}
    with Decoder(limits) as decoder:
        for name, content in files.items():
            try:
                kind = sniff(content)
            except ImageError:
                continue
            outcomes[name] = (confined(decoder, content), free(content, kind, limits, room))
    assert len(outcomes) == 1999
    assert {name: pair for name, pair in outcomes.items() if pair[0] != pair[1]} == {}


def confined(decoder: Decoder, content: bytes) -> str:
    try:
        return hashlib.sha256(decoder.decode(content).pixels.tobytes()).hexdigest()
    except ImageError as error:
        return error.code


def free(content: bytes, kind: str, limits: DecodeLimits, room: mmap.mmap) -> str:
    try:
        width, height, _ = decode_child.decode(content, kind, 0, limits.max_pixels, room)
    except RefusedError as error:
        return error.outcome
    return hashlib.sha256(room[: 3 * width * height]).hexdigest()
