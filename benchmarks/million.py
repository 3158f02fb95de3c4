"""One long manifest through the whole system: `python -m benchmarks.million [--lines 1000000] [--database-url URL]`.

A manifest of so many lines is submitted, expanded, scanned by a stub and paged through, while another account submits
ten small jobs. Prints what was seen and its bars; `--out FILE` keeps it as JSON.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.stack import Stack, running
from shield.settings import MIB
from training.bars import Bar

SMALL_JOBS, SMALL_IMAGES = 10, 10
POLL_SECONDS = 2.0
PAGE = 100
BAD_EVERY = 1000  # every so many lines one is no JSON


@dataclass
class Watch:
    """Samples taken while the job runs: seconds, terminal items, messages in Redis, resident bytes by process."""

    samples: list[dict[str, Any]] = field(default_factory=list)

    def take(self, stack: Stack, began: float, job: dict[str, Any]) -> None:
        """Note where everything stands."""
        ended = job["counts"]["total"] - job["counts"]["pending"]
        self.samples.append(
            {
                "seconds": round(time.monotonic() - began, 1),
                "state": job["state"],
                "ended": ended,
                "messages": stack.waiting(),
                "memory": stack.memory(),
            }
        )
        sys.stderr.write(f"\r{job['state']} {ended}/{job['counts']['total']} after {time.monotonic() - began:.0f} s  ")
        sys.stderr.flush()

    def growth(self, process: str) -> float:
        """A process's largest memory in the last tenth of the run over its largest in the third tenth."""
        count = len(self.samples)
        early = [s["memory"][process] for s in self.samples[count * 2 // 10 : count * 3 // 10 + 1]]
        late = [s["memory"][process] for s in self.samples[count * 9 // 10 :]]
        return float(max(late) / max(early))


def manifest(lines: int) -> Iterator[bytes]:
    """A manifest of so many lines, every thousandth of which is no JSON."""
    for start in range(0, lines, 1000):
        part = [
            b"not JSON\n"
            if n % BAD_EVERY == BAD_EVERY - 1
            else f'{{"url":"https://photos.example/{n}.jpg","custom_id":"photo {n}"}}\n'.encode()
            for n in range(start, min(start + 1000, lines))
        ]
        yield b"".join(part)


def follow(stack: Stack, client: httpx.Client, job_id: str, began: float) -> tuple[Watch, dict[str, Any]]:
    """Poll a job to its end."""
    watch = Watch()
    while True:
        job = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        watch.take(stack, began, job)
        if job["state"] == "ended":
            sys.stderr.write("\n")
            return watch, job
        time.sleep(POLL_SECONDS)


def small_job(client: httpx.Client, name: str) -> float:
    """Seconds from the request of a small job to its end."""
    began = time.monotonic()
    items = [{"url": f"https://photos.example/{name}/{n}.jpg"} for n in range(SMALL_IMAGES)]
    job = client.post("/v1/jobs", json={"name": name, "items": items}).raise_for_status().json()
    while client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()["state"] != "ended":
        time.sleep(0.02)
    return time.monotonic() - began


def small_jobs(client: httpx.Client, name: str) -> list[float]:
    """Ten small jobs, one after the other; the seconds of each, shortest first."""
    return sorted(small_job(client, f"{name}-{number}") for number in range(SMALL_JOBS))


def read_pages(client: httpx.Client, job_id: str) -> tuple[int, float, float]:
    """Page through all items: how many, and the mean seconds of a page in the first and in the last tenth."""
    seconds: list[float] = []
    seen, after = 0, None
    while True:
        began = time.monotonic()
        query = {"limit": PAGE} | ({"after": after} if after else {})
        page = client.get(f"/v1/jobs/{job_id}/items", params=query).raise_for_status().json()
        seconds.append(time.monotonic() - began)
        seen, after = seen + len(page["data"]), page["last_id"]
        if not page["has_more"]:
            break
    tenth = max(1, len(seconds) // 10)
    return seen, sum(seconds[:tenth]) / tenth, sum(seconds[-tenth:]) / tenth


def read_results(client: httpx.Client, job_id: str) -> int:
    """Stream all results; how many lines."""
    with client.stream("GET", f"/v1/jobs/{job_id}/results") as answer:
        return sum(1 for _ in answer.raise_for_status().iter_lines())


def run(lines: int, database_url: str, workers: int) -> tuple[dict[str, Any], list[Bar]]:
    """Do it all; the record and its bars."""
    limits: dict[str, Any] = {"max_request_bytes": max(512, lines // 4000) * MIB, "max_source_items": lines}
    with running(database_url, workers, **limits) as stack:
        bulk, other = stack.new_client("bulk"), stack.new_client("other")
        idle = small_jobs(other, "idle")
        began = time.monotonic()
        headers = {"Content-Type": "application/jsonl"}
        answer = bulk.post("/v1/jobs?name=long", content=manifest(lines), headers=headers)
        job = answer.raise_for_status().json()
        accepted = time.monotonic() - began
        busy: list[float] = []
        until_half = threading.Thread(target=lambda: busy.extend(_when_busy(other, bulk, job["id"])))
        until_half.start()
        watch, ended = follow(stack, bulk, job["id"], began)
        until_half.join()
        took = time.monotonic() - began
        seen, first, last = read_pages(bulk, job["id"])
        results = read_results(bulk, job["id"])
        rejected = lines // BAD_EVERY
        counts = ended["counts"]
        record = {
            "lines": lines,
            "database": stack.database.engine.dialect.name,
            "workers": workers,
            "seconds": {"to the 202": round(accepted, 2), "to the end": round(took, 1)},
            "images a second": round(counts["total"] / took, 1),
            "counts": counts,
            "small job of ten, seconds": {"idle": [round(s, 3) for s in idle], "beside": [round(s, 3) for s in busy]},
            "page, seconds": {"first tenth": round(first, 4), "last tenth": round(last, 4)},
            "cpu seconds": stack.cpu_seconds(),
            "samples": watch.samples,
        }
        bars = [
            Bar("lost", lines - rejected - counts["done"] - counts["failed"], 0, at_most=True),
            Bar("rejected_lines_missed", abs(rejected - counts["rejected"]), 0, at_most=True),
            Bar("items_missing_from_pages", counts["total"] - seen, 0, at_most=True),
            Bar("results_missing", counts["total"] - results, 0, at_most=True),
            Bar("most_messages_in_redis", max(s["messages"] for s in watch.samples), 2500, at_most=True),
            Bar("last_page_over_first", last / first, 2.0, at_most=True),
            Bar("small_job_beside_p50_seconds", busy[len(busy) // 2], 5.0, aim=1.0, at_most=True),
            *(Bar(f"memory_growth_{name}", watch.growth(name), 1.2, at_most=True) for name in stack.processes),
        ]
        return record, bars


def _when_busy(other: httpx.Client, bulk: httpx.Client, job_id: str) -> list[float]:
    """The other account's small jobs, begun once the long one is being scanned."""
    while bulk.get(f"/v1/jobs/{job_id}").raise_for_status().json()["counts"]["done"] == 0:
        time.sleep(0.1)
    return small_jobs(other, "beside")


def main() -> int:
    """Run the command; 1 when a bar is not held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of the manifest")
    parser.add_argument("--database-url", default="", help="PostgreSQL to use; default: SQLite in a temporary folder")
    parser.add_argument("--workers", type=int, default=1, help="scan workers")
    parser.add_argument("--out", type=Path, help="where the record goes as JSON")
    args = parser.parse_args()
    record, bars = run(args.lines, args.database_url, args.workers)
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps({k: v for k, v in record.items() if k != "samples"}, indent=1) + "\n")
    for bar in bars:
        sys.stdout.write("\n".join(bar.lines()) + "\n")
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
