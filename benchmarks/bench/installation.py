"""The whole product around the photos: the real programs, a client that posts and waits."""

import io
import itertools
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.bench.photos import stamped
from benchmarks.stack import Stack, running, start, until

SCAN = ("worker", "scan")
POLL_SECONDS = 0.1

_numbers = itertools.count()  # no two uploads of this process are the same bytes


@contextmanager
def installed(**changes: Any) -> Iterator[Stack]:
    """The API, the house, Redis and the database, without a scan worker."""
    with running(programs={"api": ("api",), "house": ("worker", "house")}, **changes) as stack:
        yield stack


@contextmanager
def scanning(stack: Stack, name: str, *line: str) -> Iterator[None]:
    """A scan worker, ready to scan, while the block lasts. `line`: how it is run, where not as usual."""
    start(stack, name, sys.executable, "-m", "benchmarks.counted", *(line or SCAN))
    log = stack.home / f"{name}.log"
    until(lambda: "ready: " in log.read_text(errors="replace"))
    try:
        yield
    finally:
        process = stack.processes.pop(name)
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Done:
    """A job that has ended: its images, how long the POST took, and the seconds from the 202 to the end by its row."""

    images: int
    posting: float
    seconds: float


class Client:
    """An account that posts photos and waits for what becomes of them."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._http = stack.new_client(name)

    def post(self, photos: Sequence[bytes]) -> tuple[str, float]:
        """Post a job of these photos, each with a comment that makes it new; its id, and the seconds until the 202."""
        files = [("files", (f"{n}.jpg", fresh(photo), "image/jpeg")) for n, photo in enumerate(photos)]
        return self._posted(files=files)

    def post_zip(self, photo: bytes, images: int) -> tuple[str, float]:
        """Post a zip of so many photos that differ in a comment alone."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
            for number in range(images):
                archive.writestr(f"{number}.jpg", fresh(photo))
        return self._posted(content=content.getvalue(), headers={"Content-Type": "application/zip"})

    def _posted(self, **request: Any) -> tuple[str, float]:
        began = time.monotonic()
        answer = self._http.post("/v1/jobs", **request).raise_for_status()
        return answer.json()["id"], time.monotonic() - began

    def job(self, job_id: str) -> dict[str, Any]:
        """What the API says of a job."""
        found: dict[str, Any] = self._http.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        return found

    def wait(self, posted: tuple[str, float]) -> Done:
        """Wait until a job has ended. Raises ValueError when images of it failed."""
        while (job := self.job(posted[0]))["state"] != "ended":
            time.sleep(POLL_SECONDS)
        counts = job["counts"]
        if counts["failed"] or counts["done"] != counts["total"]:
            raise ValueError(f"a benchmark of failures would mean nothing: {counts}")
        created, ended = (datetime.fromisoformat(job[name]) for name in ("created_at", "ended_at"))
        return Done(counts["total"], posted[1], (ended - created).total_seconds())


def fresh(photo: bytes) -> bytes:
    """The same photo in bytes that were never sent before, by nobody's cache known."""
    return stamped(photo, f"{time.time_ns()} {next(_numbers)}")
