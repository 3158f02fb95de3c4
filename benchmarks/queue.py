"""What the queue costs, beside a plain one: `python -m benchmarks.queue [--images 1000000] [--out FILE]`.

Jobs of so many URLs are posted and scanned by stubs, on PostgreSQL and on SQLite, and the same images are then sent one
Celery task each (benchmarks.baseline). Both are clocked from the 202, or the commit, to the job's end. With `--images`
manifests follow: some of `--items` lines, and one of so many, whose CPU time an image is compared.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks import baseline, postgres
from benchmarks.million import manifest
from benchmarks.stack import Stack, running
from shield import accounts
from shield.models import Job
from shield.settings import MIB
from training.bars import Bar

DATABASES = ("postgresql", "sqlite")
LEAST = {"postgresql": (2000, 5000), "sqlite": (1000, None)}  # images a second: the bar, the aim
WARM_UP = 100  # images before anything is measured
POLL_SECONDS = 0.2
SAMPLE_SECONDS = 1.0
SHORT_RUNS = 5  # manifests of `--items` lines: their sum is what the long one is compared with


@dataclass
class Spent:
    """What a stretch of work took: seconds on the clock, CPU seconds by process, messages, transactions."""

    images: int
    seconds: float
    cpu: dict[str, float]
    messages: int
    transactions: int

    def cpu_of_image(self) -> float:
        """CPU seconds for an image, of all processes."""
        return sum(self.cpu.values()) / self.images

    def figures(self) -> dict[str, float]:
        """Rates, and milliseconds of CPU for an image."""
        return {
            "images": self.images,
            "images/s": round(self.images / self.seconds, 1),
            "messages/s": round(self.messages / self.seconds, 1),
            "SQL transactions/s": round(self.transactions / self.seconds, 1),
            **{f"CPU ms an image: {name}": round(1000 * s / self.images, 4) for name, s in sorted(self.cpu.items())},
            "CPU ms an image": round(1000 * self.cpu_of_image(), 4),
        }


@dataclass
class Memory:
    """The memory of each process, in bytes, a sample a second, from a thread of its own."""

    stack: Stack
    samples: list[dict[str, int]] = field(default_factory=list)

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Sample while the block lasts."""
        ended = threading.Event()

        def sample() -> None:
            while True:
                self.samples.append(self.stack.memory())
                if ended.wait(SAMPLE_SECONDS):
                    return

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def peaks(self) -> dict[str, float]:
        """The most of each process, in MiB."""
        return {f"peak MiB: {name}": round(max(s[name] for s in self.samples) / MIB, 1) for name in self.samples[0]}

    def growth(self, name: str) -> float:
        """The most of a process in the last tenth over the most in the third tenth."""
        count = len(self.samples)
        early = [sample[name] for sample in self.samples[count * 2 // 10 : count * 3 // 10 + 1]]
        return max(sample[name] for sample in self.samples[count * 9 // 10 :]) / max(early)


@contextmanager
def measured(stack: Stack, images: int) -> Iterator[Spent]:
    """What the block spends, filled in at its end; `seconds` are for the block to set."""
    cpu, messages, transactions = stack.cpu_seconds(), stack.messages(), stack.transactions()
    spent = Spent(images, 0.0, {}, 0, 0)
    yield spent
    spent.cpu = {name: seconds - cpu[name] for name, seconds in stack.cpu_seconds().items()}
    spent.messages = stack.messages() - messages
    spent.transactions = stack.transactions() - transactions


@dataclass
class Client:
    """Posts and polls, and notes how long each took."""

    http: httpx.Client
    posts: list[float] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)

    def post(self, images: int, name: str) -> float:
        """Post a job of so many URLs and follow it; the seconds from the 202 to its end."""
        items = [{"url": f"https://photos.example/{name}/{n}.jpg", "custom_id": f"photo {n}"} for n in range(images)]
        body = json.dumps({"name": name, "items": items}).encode()
        began = time.monotonic()
        job = self._send("/v1/jobs", body, "application/json")
        self.posts.append(time.monotonic() - began)
        return self._follow(job)

    def post_manifest(self, lines: int) -> float:
        """Post a manifest and follow it; the seconds from the 202 to its end."""
        return self._follow(self._send("/v1/jobs", manifest(lines), "application/jsonl"))

    def _send(self, path: str, content: Any, kind: str) -> tuple[str, float]:
        answer = self.http.post(path, content=content, headers={"Content-Type": kind}).raise_for_status()
        return answer.json()["id"], time.time()

    def _follow(self, job: tuple[str, float]) -> float:
        job_id, accepted = job
        while True:
            began = time.monotonic()
            found = self.http.get(f"/v1/jobs/{job_id}").raise_for_status().json()
            self.polls.append(time.monotonic() - began)
            if found["state"] == "ended":
                return datetime.fromisoformat(found["ended_at"]).timestamp() - accepted
            time.sleep(POLL_SECONDS)


def quantile(seconds: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def measure_queue(stack: Stack, jobs: int, items: int) -> tuple[dict[str, float], Client]:
    """Post the jobs one after the other, each when the one before has ended."""
    client = Client(stack.new_client("queue"))
    client.post(WARM_UP, "warm up")
    client.posts.clear()
    memory = Memory(stack)
    with memory.sampled(), measured(stack, jobs * items) as spent:
        spent.seconds = sum(client.post(items, f"job {number}") for number in range(jobs))
    return spent.figures() | latencies(client) | memory.peaks(), client


def latencies(client: Client) -> dict[str, float]:
    """Milliseconds of posts and polls."""
    asked = {"submit": client.posts, "poll": client.polls}
    return {
        f"{name} p{share} ms": round(1000 * quantile(seconds, share / 100), 1)
        for name, seconds in asked.items()
        for share in (50, 95)
    }


def measure_baseline(stack: Stack, images: int) -> dict[str, float]:
    """One job, an image a task."""
    with stack.database.write() as session:
        account = accounts.create_account(session, "baseline").id
    one_by_one(stack, account, WARM_UP)
    memory = Memory(stack)
    with memory.sampled(), measured(stack, images) as spent:
        spent.seconds = one_by_one(stack, account, images)
    return spent.figures() | memory.peaks()


def one_by_one(stack: Stack, account: str, images: int) -> float:
    """The seconds from the commit of a job to its end."""
    with stack.database.write() as session:
        urls = [f"https://photos.example/{images}/{n}.jpg" for n in range(images)]
        job_id = baseline.submit(session, account, urls)
    began = time.time()
    told = stack.processes["publish"].stdin
    if told is None:
        raise RuntimeError("the publisher has no standard input")
    told.write(f"{job_id}\n".encode())
    told.flush()
    while True:
        with stack.database.read() as session:
            job = session.get_one(Job, job_id)
        if job.ended_at is not None:
            return job.ended_at.timestamp() - began
        time.sleep(POLL_SECONDS)


def measure_long(stack: Stack, client: Client, items: int, images: int) -> tuple[dict[str, float], list[Bar]]:
    """Manifests of `items` lines, then one of `images`: whether an image costs the same, and the memory stays."""
    with measured(stack, SHORT_RUNS * items) as short:
        short.seconds = sum(client.post_manifest(items) for _ in range(SHORT_RUNS))
    memory = Memory(stack)
    with memory.sampled(), measured(stack, images) as long:
        long.seconds = client.post_manifest(images)
    dialect = stack.database.engine.dialect.name
    bars = [Bar(f"cpu_growth_{dialect}", long.cpu_of_image() / short.cpu_of_image(), 1.25, at_most=True)]
    bars += [Bar(f"memory_growth_{dialect}_{name}", memory.growth(name), 1.2, at_most=True) for name in stack.processes]
    figures = {f"{items} lines: {name}": value for name, value in short.figures().items()}
    return figures | {f"{images} lines: {k}": v for k, v in (long.figures() | memory.peaks()).items()}, bars


def on_a(database: str, run: Callable[..., Any], **changes: Any) -> Any:
    """Run against a stack on a fresh database of this kind."""
    if database == "sqlite":
        with running(**changes) as stack:
            return run(stack)
    with postgres.serving() as server, running(server.url, servers={"postgres": server.process}, **changes) as stack:
        return run(stack)


def compare(database: str, args: argparse.Namespace) -> tuple[dict[str, Any], list[Bar]]:
    """The queue and the baseline on one kind of database; the record and its bars."""

    def queue(stack: Stack) -> tuple[dict[str, float], dict[str, float], list[Bar]]:
        figures, client = measure_queue(stack, args.jobs, args.items)
        long, bars = measure_long(stack, client, args.items, args.images) if args.images else ({}, [])
        return figures, long, bars

    limits = {"max_request_bytes": max(512, args.images // 4000) * MIB, "max_source_items": max(args.images, 10_000)}
    ours, long, bars = on_a(database, queue, workers=args.workers, **limits)
    programs = {"publish": ("benchmarks.baseline", "publish")} | {
        f"scan-{number}": ("benchmarks.baseline", "scan") for number in range(args.workers)
    }
    plain = on_a(database, lambda stack: measure_baseline(stack, args.baseline), programs=programs)
    least, aim = LEAST[database]
    bars = [
        Bar(f"ratio_to_baseline_{database}", ours["images/s"] / plain["images/s"], 6, aim=10),
        Bar(f"images_per_second_{database}", ours["images/s"], least, aim=aim),
        Bar(f"post_{args.items}_p95_seconds_{database}", ours["submit p95 ms"] / 1000, 1.5, at_most=True),
        *bars,
    ]
    return {"queue": ours, "baseline": plain} | ({"long": long} if long else {}), bars


def table(record: dict[str, Any]) -> str:
    """The figures of all systems, side by side."""
    columns = [(f"{system} {database}", figures) for database, systems in record.items()
               for system, figures in systems.items() if system != "long"]  # fmt: skip
    names = list(dict.fromkeys(name for _, figures in columns for name in figures))
    lines = [["", *(title for title, _ in columns)]]
    lines += [[name, *(f"{figures[name]:g}" if name in figures else "" for _, figures in columns)] for name in names]
    for database, systems in record.items():
        lines += [[f"{database}, {name}", f"{value:g}"] for name, value in systems.get("long", {}).items()]
    first = max(len(line[0]) for line in lines)
    return "\n".join("  ".join([line[0].ljust(first), *(cell.rjust(19) for cell in line[1:])]) for line in lines)


def main() -> int:
    """Run the command; 1 when a bar is not held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10, help="jobs that are posted")
    parser.add_argument("--items", type=int, default=10_000, help="images of each")
    parser.add_argument("--baseline", type=int, default=5_000, help="images of the baseline: it is slow")
    parser.add_argument("--images", type=int, default=0, help="lines of a long manifest")
    parser.add_argument("--workers", type=int, default=2, help="scan workers")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--out", type=Path, help="where the record goes as JSON")
    args = parser.parse_args()
    found = {database: compare(database, args) for database in args.databases}
    record = {database: figures for database, (figures, _) in found.items()}
    bars = [bar for _, some in found.values() for bar in some]
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(record) + "\n")
    for bar in bars:
        sys.stdout.write("\n".join(bar.lines()) + "\n")
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
