"""The scan worker: a Celery app whose tasks let the scan loop look for work.

Pool solo: the networks use every core themselves, and a forked pool would load them twice. SIGTERM lets the batch in
hand finish, gives back what is leased and not yet scanned, and ends the process.
"""

import logging
import time
from typing import Any, Protocol

from celery import Celery, signals

from pipeline.weights import WeightsCard
from shield import policies
from shield.blobs import open_blobs
from shield.db import Database
from shield.errors import SettingsError
from shield.explanations import EXPLAIN
from shield.outbox import SCAN
from shield.policy import Policy
from shield.queue import LANES, celery_app
from shield.settings import Settings
from worker.explain import Explainer, Explaining
from worker.loop import ScanLoop
from worker.measuring import Scanner
from worker.scan import Scanning
from worker.sources import Fetcher

log = logging.getLogger(__name__)

BROKER_PAUSE = 5.0  # seconds before a consumer that failed is made anew


class ExplainingScanner(Scanner, Explainer, Protocol):
    """What scans and explains: pipeline.scan.Scanner, or a double in a test."""


def run(scanner: ExplainingScanner, card: WeightsCard, config: Settings, sources: Fetcher | None = None) -> int:
    """Scan until SIGTERM or SIGINT; the exit code. Redis may come and go, or not be there at all.

    Raises SettingsError without SHIELD_REDIS_URL or for a malformed SHIELD_BLOBS, StorageUnavailable when the database
    cannot be reached at the start.
    """
    database, blobs = Database(config.database), open_blobs(config)
    scanning = Scanning(database, blobs, scanner, register(database, card), config, sources)
    explaining = Explaining(database, blobs, scanner, config)
    loop = ScanLoop(scanning, explaining, config.lease_poll_seconds)
    app = scan_app(loop, explaining, broker(config))

    def stop(**_: Any) -> None:
        loop.stop()

    signals.worker_shutting_down.connect(stop, weak=False)
    signals.setup_logging.connect(_keep_logging, weak=False)
    log.info("ready: %s %s", card.name, card.version)
    loop.start()
    try:
        return consume(app, scanning)
    finally:
        loop.stop()
        loop.join()
        database.close()


def consume(app: Celery, scanning: Scanning) -> int:
    """Consume messages until told to stop; the exit code.

    Celery waits by itself for a Redis that is away, but ends over one that is there and refuses to write (its memory or
    its disk is full). The networks and the scan loop outlive that: only the consumer is made anew.
    """
    while True:
        worker = app.Worker(pool="solo", queues=list(LANES), without_gossip=True, without_mingle=True, quiet=True)
        worker.start()
        if scanning.stopping or not worker.exitcode:
            return int(worker.exitcode or 0)
        log.warning("the consumer failed: a new one in %g s; meanwhile chunks are found in SQL", BROKER_PAUSE)
        until = time.monotonic() + BROKER_PAUSE
        while time.monotonic() < until and not scanning.stopping:
            time.sleep(0.1)
        if scanning.stopping:
            return 0


def scan_app(loop: ScanLoop, explaining: Explaining, redis_url: str) -> Celery:
    """The Celery app with its tasks: one returns when the loop has scanned a batch, the other has it look at once."""
    app = celery_app(redis_url)

    @app.task(name=SCAN)
    def scan(chunk_id: str) -> None:  # noqa: ARG001 - a message names its chunk; the loop takes the next by turn
        loop.ask()

    @app.task(name=EXPLAIN)
    def explain(item_id: str) -> None:  # noqa: ARG001 - likewise: who asked first is answered first
        explaining.look()

    return app


def register(database: Database, card: WeightsCard) -> Policy:
    """Note which classifier this worker runs; the default policy that it brings along."""
    with database.write() as session:
        policies.register_weights(
            session, card.weights_sha256, card.name, card.version, card.thresholds["fake"], card.thresholds["suspect"]
        )
        return policies.default_policy(session, card.weights_sha256)


def broker(config: Settings) -> str:
    """The URL of Redis. Raises SettingsError when there is none."""
    if not config.redis_url:
        raise SettingsError(
            "SHIELD_REDIS_URL is empty. `python -m shield up` starts a Redis of its own and tells its children"
        )
    return config.redis_url


def _keep_logging(**_: Any) -> None:
    """Being connected is enough: Celery then leaves this process's logging as it is."""
