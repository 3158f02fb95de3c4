"""What one account's dead servers cost another: `python -m benchmarks.dead_servers [--urls 2000] [--out FILE]`.

One account submits URLs of a server that never answers. Meanwhile another submits single images, by URL and as bytes,
whose seconds are compared with those on the same installation before. Fetching is real, the networks are a stub.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from benchmarks.stack import Stack, product, running
from training.bars import Bar

ROUNDS = 20
FETCH_SECONDS = 15.0


class Server(BaseHTTPRequestHandler):
    """Answers any path with itself, but never /dead."""

    ended = threading.Event()

    def do_GET(self) -> None:
        """One request."""
        if self.path.startswith("/dead"):
            self.ended.wait()
            return
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    """A server's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        Server.ended.set()
        server.shutdown()
        server.server_close()


def until_ended(client: httpx.Client, job: dict[str, Any]) -> None:
    """Poll a job to its end."""
    while client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()["state"] != "ended":
        time.sleep(0.02)


def by_url(client: httpx.Client, site: str, name: str) -> None:
    """One image by URL."""
    answer = client.post("/v1/jobs", json={"items": [{"url": f"{site}/{name}"}]})
    until_ended(client, answer.raise_for_status().json())


def as_bytes(client: httpx.Client, _: str, name: str) -> None:
    """One image as bytes."""
    answer = client.post("/v1/jobs", files={"files": (name, name.encode(), "image/jpeg")})
    until_ended(client, answer.raise_for_status().json())


def seconds(client: httpx.Client, site: str, name: str, way: Callable[[httpx.Client, str, str], None]) -> list[float]:
    """Of each of the rounds, shortest first."""
    taken = []
    for number in range(ROUNDS):
        began = time.monotonic()
        way(client, site, f"{name}-{number}")
        taken.append(time.monotonic() - began)
    return sorted(taken)


def measure(stack: Stack, site: str, urls: int) -> tuple[dict[str, Any], list[Bar]]:
    """The record and its bars."""
    slow, other = stack.new_client("slow"), stack.new_client("other")
    ways = {"by_url": by_url, "as_bytes": as_bytes}
    idle = {way: seconds(other, site, f"idle-{way}", do) for way, do in ways.items()}
    items = [{"url": f"{site}/dead/{number}"} for number in range(urls)]
    job = slow.post("/v1/jobs", json={"items": items}).raise_for_status().json()
    time.sleep(2.0)  # so the workers have begun on it
    beside = {way: seconds(other, site, f"beside-{way}", do) for way, do in ways.items()}
    stands = slow.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
    record = {
        "urls_that_never_answer": urls,
        "their_job": {"state": stands["state"], "counts": stands["counts"]},
        "seconds_idle": {way: [round(s, 3) for s in found] for way, found in idle.items()},
        "seconds_beside": {way: [round(s, 3) for s in found] for way, found in beside.items()},
    }
    return record, [
        Bar("their_job_still_waits", stands["counts"]["pending"] > 0, 1),
        *(Bar(f"other_{way}_worst_seconds", beside[way][-1], 5.0, aim=2.0, at_most=True) for way in ways),
    ]


def main() -> int:
    """Run the command; 1 when a bar is not held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dead_servers", description=__doc__)
    parser.add_argument("--urls", type=int, default=2000, help="URLs that never answer")
    parser.add_argument("--database-url", default="", help="PostgreSQL to use; default: SQLite in a temporary folder")
    parser.add_argument("--out", type=Path, help="where the record goes as JSON")
    args = parser.parse_args()
    programs = product(0) | {"scan-0": ("benchmarks.stub", "--fetch")}
    settings: dict[str, Any] = {"egress_allow_loopback": True, "fetch_timeout_seconds": FETCH_SECONDS}
    with serving() as site, running(args.database_url, programs=programs, **settings) as stack:
        record, bars = measure(stack, site, args.urls)
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(record) + "\n")
    for bar in bars:
        sys.stdout.write("\n".join(bar.lines()) + "\n")
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
