"""A worker process that is given nothing but hostile images lives, and has an answer for each of them."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from pipeline.images import DecodeLimits
from pipeline.results import ErrorCode
from shield.models import Item
from shield.states import Verdict
from tests.pipeline.hostile_files import read_hostile
from tests.worker import conftest
from tests.worker.conftest import House, RedisServer, Workers, stop, wait_until

WORKER_BYTES = 2 * 2**30  # resident: the networks' buffers are most of it
KILOBYTE = 1024  # of /proc/PID/status


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def most_resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return KILOBYTE * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, which Linux alone has")
@pytest.mark.parametrize("dialect", ["sqlite"])
def test_a_worker_answers_every_hostile_file_and_neither_dies_nor_leaves_a_decoder_behind(
    data_folder: Path, house: House, server: RedisServer, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "PATIENCE", 800.0)
    server.start()
    job = house.submit(*read_hostile(data_folder).values(), chunk_items=32)
    worker = workers.start("worker", "scan", SHIELD_BATCH_IMAGES="32", SHIELD_LEASE_SECONDS="60")
    wait_until(lambda: house.ended(job) or worker.poll() is not None)

    assert worker.poll() is None
    with house.database.read() as session:
        rows = session.execute(select(Item.verdict, Item.error_code).where(Item.job_id == job.id))
        outcomes = Counter(verdict or code for verdict, code in rows)
    assert outcomes.total() == 3038
    assert set(outcomes) <= {*Verdict, *ErrorCode}
    assert sum(outcomes[verdict] for verdict in Verdict) > 900
    assert "Traceback" not in workers.log()
    assert "the scanner failed" not in workers.log()
    decoders = children(worker.pid)
    assert decoders
    assert max(map(most_resident, decoders)) < DecodeLimits().memory_bytes
    assert most_resident(worker.pid) < WORKER_BYTES
    assert stop(worker, signal.SIGTERM) == 0
    wait_until(lambda: not any(map(alive, decoders)))
    house.check()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
