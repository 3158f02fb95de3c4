"""The product's programs with their steps wrapped from outside: `python -m chaos.programs scan|house|api`."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from benchmarks.stub import CARD, StubScanner, StubSources
from chaos import planted
from chaos.steps import FOLDER, Steps, multiply
from pipeline.results import Scan
from shield import dispatch, logs, outbox, queue
from shield.models import Chunk
from shield.settings import settings

POISON = b"/poison/"  # in the URL of an image that kills whoever scans it


GROUP = 8  # images that are scanned together: between two groups others may go


class MortalScanner(StubScanner):
    """Takes its time over every image, and dies of a poisonous one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def scan(self, images: Sequence[bytes]) -> Iterator[Scan]:
        """One Scan for each image, in order, as each group is done."""
        for start in range(0, len(images), GROUP):
            group = images[start : start + GROUP]
            if any(POISON in content for content in group):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self._seconds * len(group))
            yield from super().scan(group)


def scan(steps: Steps) -> int:
    """A scan worker."""
    from kombu.transport.redis import QoS

    from worker import app
    from worker.ahead import Ahead
    from worker.loop import ScanLoop
    from worker.scan import Scanning

    _trace_leases(steps)
    steps.up_before(ScanLoop, "start")
    steps.before(Scanning, "_scan", "claimed")
    steps.before(Ahead, "_fetch", "claimed")
    steps.before(Scanning, "_finish", "fetched")
    steps.before(Scanning, "_record", "scanned")
    steps.after(Scanning, "_record", "committed")
    steps.before(QoS, "append", "popped")
    steps.before(QoS, "ack", "acking")
    steps.after(QoS, "ack", "acked")
    return app.run(MortalScanner(float(os.environ["CHAOS_IMAGE_SECONDS"])), CARD, settings(), StubSources())


def house(steps: Steps) -> int:
    """The house."""
    from shield import expansion
    from worker.house import Beside, run

    steps.up_before(Beside, "lead")
    queue.CeleryQueue.publish = multiply(Path(os.environ[FOLDER]), queue.CeleryQueue.publish)  # type: ignore[method-assign]
    steps.before(outbox, "sent", "published")
    steps.after(expansion, "advance", "expanding")
    swept = dispatch.sweep

    @wraps(swept)
    def sweep(*args: Any, **named: Any) -> int:
        count = swept(*args, **named)
        if count:
            steps.reach("sweeping")
        return count

    dispatch.sweep = sweep
    run(settings())
    return 0


def api(steps: Steps) -> int:
    """The API. Its server forks: what is wrapped here is wrapped in the child that serves."""
    from api.__main__ import main
    from api.stores import Poker
    from shield import jobs

    queue.CeleryQueue.publish = multiply(Path(os.environ[FOLDER]), queue.CeleryQueue.publish)  # type: ignore[method-assign]
    steps.after(outbox, "owe_scans", "outbox_written")
    steps.before(Poker, "poke", "accepted")
    steps.before(outbox, "sent", "poked")
    steps.before(jobs, "close_ready", "canceling")
    return main()


def _trace_leases(steps: Steps) -> None:
    """Note what is leased, recorded and given back; reach the steps inside those transactions."""
    leased, recorded, released = dispatch.lease, dispatch.record, dispatch.release

    @wraps(leased)
    def lease(session: Any, *args: Any) -> dispatch.Lease | None:
        held = leased(session, *args)
        if held is not None:
            ids = [item.id for item in held.items]
            if held.alone and len(ids) == 1 and session.get_one(Chunk, held.chunk_id).deaths == dispatch.POISON_AT - 1:
                steps.spared.add(held.chunk_id)
            steps.note("leased", chunk=held.chunk_id, token=held.token, items=ids)
            steps.reach("leasing")
        return held

    @wraps(recorded)
    def record(session: Any, held: dispatch.Lease, outcomes: Any) -> int:
        moved = recorded(session, held, outcomes)
        steps.note("recorded", chunk=held.chunk_id, token=held.token, moved=moved)
        steps.reach("recording")
        steps.spared.discard(held.chunk_id)
        return moved

    @wraps(released)
    def release(session: Any, held: dispatch.Lease) -> None:
        released(session, held)
        steps.note("released", chunk=held.chunk_id, token=held.token)
        steps.spared.discard(held.chunk_id)

    dispatch.lease, dispatch.record, dispatch.release = lease, record, release  # type: ignore[assignment]


def preload() -> None:
    """Import what the programs need, and touch nothing else."""
    import api.__main__  # noqa: F401
    import worker.app
    import worker.house  # noqa: F401


def run(program: str) -> int:
    """Run one program; its exit code."""
    config = settings()
    logs.set_up(config.log_format, config.log_level)
    if "FAKETIME" in os.environ:  # libfaketime 0.9 refuses the system call by which Python sleeps
        time.sleep = threading.Event().wait  # type: ignore[assignment]
    planted.plant(os.environ.get("CHAOS_PLANTED", ""))
    return {"scan": scan, "house": house, "api": api}[program](Steps(Path(os.environ[FOLDER])))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
