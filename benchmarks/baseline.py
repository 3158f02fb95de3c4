"""The plain way that the queue is measured against: one Celery task an image, and one transaction for each.

The same tables, the same durable settings of database, Redis and Celery, the same stub in place of the networks; but no
chunks, leases, outbox or cache. `python -m benchmarks.baseline scan` is its worker, `... publish` sends the tasks of
the jobs whose ids it reads.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from sqlalchemy import Row, Table, bindparam, case, insert, select, update
from sqlalchemy.orm import Session

from benchmarks.stub import CARD, StubScanner
from pipeline.results import Face, Scan
from shield import models
from shield.db import Database, new_id, now
from shield.policy import FaceFacts, Origin, Policy, judge
from shield.queue import LANES, celery_app
from shield.settings import settings
from worker.app import register

TASK = "baseline.scan"

ITEM, JOB = (cast("Table", entity.__table__) for entity in (models.Item, models.Job))
COUNTS = ("done", "failed", "fake", "suspect", "clear", "no_face", "inconclusive")
ENDS = JOB.c.done + JOB.c.failed + 1 == JOB.c.total
FIND = select(ITEM).where(ITEM.c.id == bindparam("item_id"), ITEM.c.state == "pending")
FINISH = update(ITEM).where(ITEM.c.id == bindparam("item_id"))
COUNT = (
    update(JOB)
    .where(JOB.c.id == bindparam("job_id"))
    .values(
        {name: JOB.c[name] + bindparam(f"more_{name}") for name in COUNTS}
        | {"state": case((ENDS, "ended"), else_="running"), "ended_at": case((ENDS, bindparam("moment")), else_=None)}
    )
)


def submit(session: Session, account_id: str, urls: Sequence[str]) -> str:
    """Make a job of these images; its id."""
    job_id = new_id("job")
    chunk_id = f"chk_{job_id[4:]}"  # what an item must have; nobody leases it
    owned = {"account_id": account_id, "job_id": job_id}
    session.add(models.Job(id=job_id, account_id=account_id, lane="bulk", total=len(urls), created_at=now(session)))
    session.flush()
    session.execute(insert(models.Chunk), [{**owned, "id": chunk_id, "lane": "baseline", "turn": 0, "size": len(urls)}])
    rows = [
        {**owned, "id": f"itm_{job_id[4:]}_{n:07d}", "chunk_id": chunk_id, "ordinal": n, "source_url": url}
        for n, url in enumerate(urls)
    ]
    session.execute(insert(models.Item), rows)
    return job_id


def publish() -> None:
    """Send the tasks of each job whose id comes in on a line."""
    database, app = Database(settings().database), celery_app(settings().redis_url)
    for line in sys.stdin:
        with database.read() as session:
            ids = session.scalars(select(ITEM.c.id).where(ITEM.c.job_id == line.strip()).order_by(ITEM.c.ordinal)).all()
        for item_id in ids:
            app.send_task(TASK, args=[item_id], queue=LANES[-1], retry=False)


def record(session: Session, item: Row[Any], found: Scan, policy: Policy) -> None:
    """Write what became of an item, its faces, and its job's counts."""
    moment = now(session)
    if found.error is not None or found.image is None:
        values: dict[str, object] = {"state": "failed", "error_code": found.error and found.error.code}
        counted = ["failed"]
    else:
        judgement = judge(tuple(map(_facts, found.faces)), policy, Origin.UPLOAD)
        values = {
            "state": "done",
            "verdict": judgement.verdict,
            "reasons": list(judgement.reasons),
            "score": judgement.score,
            "image_width": found.image.width,
            "image_height": found.image.height,
            "image_format": found.image.format,
            "image_sha256": found.image.sha256,
            "weights_sha256": found.model.weights_sha256,
            "policy_version": policy.version,
        }
        counted = ["done", str(judgement.verdict)]
    session.execute(FINISH.values(**values, ended_at=moment), {"item_id": item.id})
    owned = {"item_id": item.id, "account_id": item.account_id}
    faces = [{**owned, "ordinal": n, **asdict(_facts(face))} for n, face in enumerate(found.faces)]
    if faces:
        session.execute(insert(models.Face), faces)
    more = {f"more_{name}": int(name in counted) for name in COUNTS}
    session.execute(COUNT, {"job_id": item.job_id, "moment": moment, **more})


def scan() -> None:
    """Scan images until SIGTERM."""
    database, app = Database(settings().database), celery_app(settings().redis_url)
    scanner, policy = StubScanner(), register(database, CARD)

    @app.task(name=TASK)
    def scan_one(item_id: str) -> None:
        with database.write() as session:
            item = session.execute(FIND, {"item_id": item_id}).one_or_none()
            if item is not None:
                (found,) = scanner.scan([item.source_url.encode()])
                record(session, item, found, policy)

    app.Worker(pool="solo", queues=list(LANES), without_gossip=True, without_mingle=True, quiet=True).start()


def _facts(face: Face) -> FaceFacts:
    box = face.box
    return FaceFacts(box.left, box.top, box.width, box.height, face.detection_score, face.score, face.landmarks)


if __name__ == "__main__":
    {"scan": scan, "publish": publish}[sys.argv[1]]()
