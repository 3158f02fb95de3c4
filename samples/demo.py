"""Scan the sample photos through the whole system, and show what came of it: `make demo`.

It starts a stack of its own in var/demo, submits every photo as one job through the HTTP API, prints the verdicts,
draws them into copies of the photos, and stops the stack. Exit code 0: every photo reached a result.
"""

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import httpx
from PIL import Image, ImageDraw, ImageFont, ImageOps

# The client is a project of its own, and not installed here.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients" / "python"))

from deepfake_shield import Result, Shield, ShieldError
from deepfake_shield.progress import Progress
from deepfake_shield.tables import write_rows, write_table

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = Path("samples")
OUT = Path("var") / "demo"
START_SECONDS = 180.0
STOP_SECONDS = 60.0
LOG_LINES = 15
COLOURS = {"fake": "#d62728", "suspect": "#ff9f1c", "clear": "#2a9d4a"}
OTHER_COLOUR = "#5b6470"
# The demo keeps to its own folder, whatever installation the environment or a .env file speaks of.
SETTINGS = {
    "SHIELD_HOME": str(ROOT / OUT / "home"),
    "SHIELD_HOST": "127.0.0.1",
    "SHIELD_PORT": "0",
    "SHIELD_LEASE_SECONDS": "10",  # a worker that is killed costs this much time and nothing else
}


class DemoFailed(Exception):
    """The demo cannot go on; the message says why and what to do."""


class Stack(NamedTuple):
    """A running stack: where it answers, and a key to it."""

    url: str
    key: str


@contextmanager
def stack() -> Iterator[Stack]:
    """Start the embedded stack as a child, and stop it however the block ends. Raises DemoFailed."""
    log = OUT / "up.log"
    with log.open("wb") as lines:
        child = subprocess.Popen(
            [sys.executable, "-m", "shield", "up", "--while-stdin", "--key-file", "key"],
            cwd=OUT,  # where no .env file is
            env=environment(),
            stdin=subprocess.PIPE,  # nothing is written: its end tells the child that this process was killed
            stdout=lines,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which stops the child in order
        )
    try:
        yield until_ready(child)
    except DemoFailed as error:
        raise DemoFailed(f"{error}\n{tails()}") from error
    finally:
        stop(child)


def environment() -> dict[str, str]:
    """Give this process's environment, with the demo's settings in place of every setting of the system."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("SHIELD_")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, **SETTINGS, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def until_ready(child: subprocess.Popen[bytes]) -> Stack:
    """Wait until the stack takes work. Raises DemoFailed when it ends instead, or takes too long."""
    up = OUT / "home" / "up.json"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise DemoFailed(f"the stack ended with exit code {child.returncode} instead of starting")
        if up.exists():
            url = str(json.loads(up.read_text())["url"])
            if answers(url):
                return Stack(url, (OUT / "key").read_text().strip())
        time.sleep(0.2)
    raise DemoFailed(f"the stack was not ready after {START_SECONDS:.0f} s")


def answers(url: str) -> bool:
    """Whether the API says that it is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask the stack to stop in order, and at a second Ctrl-C at once; kill it where it does not."""
    child.terminate()
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(STOP_SECONDS)
    except KeyboardInterrupt:
        child.terminate()  # the second signal, at which it waits for nothing
        child.wait()
        raise
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def tails() -> str:
    """Give the last lines of every log that the stack has written."""
    logs = [OUT / "up.log", *sorted((OUT / "home" / "logs").glob("*.log"))]
    ends = [(log, log.read_text(errors="replace").splitlines()[-LOG_LINES:]) for log in logs if log.exists()]
    return "\n".join(
        f"\nthe end of {log}:\n" + "\n".join(f"    {line}" for line in lines) for log, lines in ends if lines
    )


def photos() -> list[Path]:
    """List every sample photo, from the root of the project."""
    return sorted(SAMPLES.rglob("*.jpg"))


def scan(found: Stack) -> list[Result]:
    """Submit all photos as one job, show its progress, and give its results. Raises ShieldError."""
    with Progress(sys.stderr) as progress, Shield(found.url, found.key) as shield:
        job = shield.submit(photos(), name="demo", on_upload=progress.upload)
        progress.note(f"{job.id}: {job.counts.total} photos accepted as one job")
        shield.wait(job.id, progress.scan)
        return list(shield.results(job.id))


def write_results(results: list[Result]) -> None:
    """Write one JSON object a line, as the API gave it."""
    lines = [json.dumps(one.raw, ensure_ascii=False) + "\n" for one in results]
    (OUT / "results.jsonl").write_text("".join(lines), encoding="utf-8")


def draw(result: Result) -> None:
    """Write a copy of the photo, upright, with the verdict at its foot and a box with a score around each face."""
    photo = Path(result.custom_id or "")
    with Image.open(photo) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB")
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size) / 512  # a hair's width, whatever the size of the photo
    font = ImageFont.load_default(size=14 * unit)
    verdict = result.verdict or result.state
    colour = COLOURS.get(verdict, OTHER_COLOUR)
    for face in result.faces:
        box = face.box
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)
        pen.rectangle(corners, outline=colour, width=round(2 * unit))
        tag(pen, (box.left, max(0.0, box.top - 18 * unit)), f"{face.score:.2f}", font, colour)
    score = "" if result.score is None else f"  {result.score:.3f}"
    tag(pen, (0.0, picture.height - 18 * unit), f" {verdict}{score} ", font, colour)
    target = OUT / "pictures" / photo.relative_to(SAMPLES)
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target, quality=90)


def tag(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: str,
) -> None:
    """Write white text on a coloured ground."""
    left, top, right, bottom = pen.textbbox(place, text, font=font)
    edge = (bottom - top) / 6
    pen.rectangle((left - edge, top - edge, right + edge, bottom + edge), fill=colour)
    pen.text(place, text, fill="white", font=font)


def write_pairs(results: list[Result]) -> None:
    """Print each face swap beside the photo that it was made from, and how far apart their scores are."""
    scores = {one.custom_id: one.score for one in results}
    rows, higher = [], 0
    with (SAMPLES / "pairs.csv").open(newline="") as file:
        for pair in csv.DictReader(file):
            fake, original = scores.get(str(SAMPLES / pair["fake"])), scores.get(str(SAMPLES / pair["original"]))
            shown = ["" if score is None else f"{score:.3f}" for score in (fake, original)]
            apart = None if fake is None or original is None else fake - original
            higher += apart is not None and apart > 0
            rows.append((pair["fake"], shown[0], pair["original"], shown[1], "" if apart is None else f"{apart:+.3f}"))
    write_rows(("swap", "score", "original", "score", "apart"), rows, sys.stdout, right=(1, 3, 4))
    print(f"\n{higher} of {len(rows)} swaps score above their original.")


def report(results: list[Result], seconds: float) -> int:
    """Print and write what was found; the exit code."""
    write_table(results, sys.stdout)
    print("\nEach face swap beside its original:\n")
    write_pairs(results)
    write_results(results)
    for one in results:
        if one.state == "done":
            draw(one)
    missing = {str(photo) for photo in photos()} - {one.custom_id for one in results if one.terminal}
    home = OUT / "home"
    print(f"""
{len(results)} photos in {seconds:.1f} s, from submission to the last result.

Where to look next
  {OUT / "pictures"}   the photos with their faces, scores and verdicts drawn in
  {OUT / "results.jsonl"}   every result as the API gave it
  SHIELD_HOME={home} make up   start the system again and keep it: {flagged(results)} wait for a moderator
    at http://127.0.0.1:8000/review once you have opened the link that it prints; docs/moderating.md is about that page
  clients/python/README.md   scan photos of your own:  deepfake-shield scan PATH...
  docs/   how it works, and why it is built this way""")
    if missing:
        print(f"\nThese photos have no result: {', '.join(sorted(missing))}", file=sys.stderr)
    return 1 if missing else 0


def flagged(results: list[Result]) -> str:
    """How many of the photos became cases: what is fake or suspect does."""
    count = sum(one.verdict in ("fake", "suspect") for one in results)
    return "1 case" if count == 1 else f"{count} cases"


def demo() -> int:
    """Run the whole demo in an empty folder; its exit code."""
    print("Starting the system (API, queue, scan worker, housekeeping) ...", file=sys.stderr, flush=True)
    for left in (OUT / "home", OUT / "pictures"):
        shutil.rmtree(left, ignore_errors=True)
    (OUT / "results.jsonl").unlink(missing_ok=True)
    with stack() as found:
        start = time.monotonic()
        try:
            results = scan(found)
        except ShieldError as error:
            raise DemoFailed(f"the scan did not end: {error}") from error
        seconds = time.monotonic() - start
    print(file=sys.stderr)
    return report(results, seconds)


def main() -> int:
    """Keep to one demo at a time, and leave nothing running behind."""
    os.chdir(ROOT)
    OUT.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it goes on when its terminal is closed
        signal.signal(signal.SIGHUP, interrupt)
    with (OUT / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another demo is running in {OUT}: wait for it, or stop it", file=sys.stderr)
            return 1
        try:
            return demo()
        except DemoFailed as error:
            print(f"\nThe demo failed: {error}", file=sys.stderr)
            print("\nIf the words above do not say why: `make clean`, then `make demo` again.", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped; nothing is left running.", file=sys.stderr)
            return 130


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does: in order."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
