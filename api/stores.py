"""What every request reaches for: settings, database, blobs, and the queue's poke and pulse. Made once a process."""

import logging
import queue as queues
import threading
from dataclasses import dataclass

from flask import current_app

from shield import outbox
from shield.blobs import Blobs
from shield.db import Database
from shield.errors import StorageUnavailable
from shield.queue import Message, Queue, QueueUnavailable
from shield.settings import Settings

log = logging.getLogger(__name__)

POKED = 16  # messages of a new job that are sent at once
PULSE_SECONDS = 2.0  # how long a question about the queue is waited for


class Poker:
    """Publishes what the outbox owes for new jobs, on a thread of its own, so that a slow queue slows no answer.

    Only a job's first messages are sent, enough to wake every worker; the relay sends the rest as Redis has room. A
    poke that fails is dropped with those behind it: the outbox still holds what they owe, and SQL what a hint is about.
    """

    def __init__(self, database: Database, queue: Queue) -> None:
        self._database = database
        self._queue = queue
        self._asked: queues.SimpleQueue[str | Message] = queues.SimpleQueue()
        threading.Thread(target=self._run, name="poker", daemon=True).start()

    def poke(self, job_id: str) -> None:
        """Publish this job's messages soon. Returns at once."""
        self._asked.put(job_id)

    def hint(self, message: Message) -> None:
        """Publish a message that may be lost, soon. Returns at once."""
        self._asked.put(message)

    def _run(self) -> None:
        while True:
            asked = self._asked.get()
            try:
                delivered = self._queue.publish([asked]) == 1 if isinstance(asked, Message) else self._publish(asked)
            except StorageUnavailable as error:
                log.warning("the poke of %s waits for the relay: %s", asked, error)
                delivered = False
            except Exception:
                log.exception("the poke of %s waits for the relay", asked)
                delivered = False
            if not delivered:
                self._forget()

    def _publish(self, job_id: str) -> bool:
        """Whether everything owed for this job was sent. The queue is spoken to outside any transaction."""
        with self._database.read() as session:
            owed = outbox.owed_for(session, job_id, POKED)
        count = self._queue.publish([message for _, message in owed])
        if count:
            with self._database.write() as session:
                outbox.sent(session, [row_id for row_id, _ in owed[:count]])
        if count < len(owed):
            log.warning("the queue took %d of %d messages of %s; the relay sends the rest", count, len(owed), job_id)
        return count == len(owed)

    def _forget(self) -> None:
        while not self._asked.empty():
            self._asked.get()


class Pulse:
    """Whether the queue answers, in bounded time: a Redis that hangs holds its clients for half a minute and more."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._probe = threading.Thread()  # never more than one under way
        self._up = False

    def beats(self) -> bool:
        """Ask the queue; False when it is down or has not answered in time."""
        with self._lock:
            if not self._probe.is_alive():
                self._up = False
                self._probe = threading.Thread(target=self._ask, name="pulse", daemon=True)
                self._probe.start()
            probe = self._probe
        probe.join(PULSE_SECONDS)
        return self._up

    def _ask(self) -> None:
        try:
            self._queue.ping()
        except QueueUnavailable:
            return
        self._up = True


@dataclass(frozen=True, slots=True)
class Stores:
    """The parts behind the API."""

    settings: Settings
    database: Database
    blobs: Blobs
    poker: Poker
    pulse: Pulse


def stores() -> Stores:
    """The parts behind the app that serves this request."""
    found: Stores = current_app.extensions["shield"]
    return found
