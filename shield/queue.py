"""The queue: hints to workers that a chunk is ready. SQL is the truth; losing a message costs time, never work.

The only place outside worker/ where Celery is spoken: tasks are sent by name.
"""

import collections
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

LANES = INTERACTIVE, BULK = ("interactive", "bulk")  # in order of preference


class Message(NamedTuple):
    """A task name, its lane, and the chunk it is about; nothing else travels."""

    task: str
    lane: str
    chunk_id: str


class QueueUnavailable(Exception):
    """The queue cannot be reached. Nothing is lost: the outbox still holds what was to be sent."""


class Queue(Protocol):
    """Where messages are published."""

    def publish(self, messages: list[Message]) -> int:
        """Send messages in order; how many went before the queue failed (all of them when it did not)."""
        ...

    def depth(self, lane: str) -> int:
        """Messages of a lane that no worker has taken. Raises QueueUnavailable."""
        ...

    def ping(self) -> None:
        """Raises QueueUnavailable when the queue cannot be reached."""
        ...


class MemoryQueue:
    """A queue in this process: for tests and single-process tools."""

    def __init__(self) -> None:
        self.messages: collections.deque[Message] = collections.deque()

    def publish(self, messages: list[Message]) -> int:
        """Keep the messages in `messages`."""
        self.messages.extend(messages)
        return len(messages)

    def depth(self, lane: str) -> int:
        """How many of `messages` are of this lane."""
        return sum(message.lane == lane for message in self.messages)

    def ping(self) -> None:
        """Always there."""


class CeleryQueue:
    """Messages to Celery workers through Redis."""

    def __init__(self, url: str) -> None:
        self.app = celery_app(url)

    def publish(self, messages: list[Message]) -> int:
        """Send each as a task by name to its lane; stops at the first that fails, waiting for no Redis to return."""
        count = 0
        for message in messages:
            try:
                self.app.send_task(message.task, args=[message.chunk_id], queue=message.lane, retry=False)
            except (OperationalError, OSError):
                break
            count += 1
        return count

    def depth(self, lane: str) -> int:
        """The length of the lane's list in Redis."""
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
                channel: Any = connection.default_channel  # of kombu's Redis transport
                return int(channel.client.llen(lane))
        except (OperationalError, OSError, RedisError) as error:
            raise QueueUnavailable(f"Redis does not answer: {error}") from error

    def ping(self) -> None:
        """Raises QueueUnavailable when Redis does not answer."""
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except (OperationalError, OSError) as error:
            raise QueueUnavailable(f"Redis does not answer: {error}") from error


def broker_url(url: str) -> str:
    """A Redis URL as kombu wants it: unix:// and valkey+unix:// become redis+socket://."""
    parts = urlsplit(url)
    if parts.scheme in ("unix", "valkey+unix", "redis+unix"):
        return f"redis+socket://{parts.path}?virtual_host=0"
    return url.replace("valkey://", "redis://", 1)


def celery_app(url: str) -> Celery:
    """The one Celery configuration, for those who send and those who work. Reasons stand in docs/architecture.md."""
    app = Celery("shield", broker=broker_url(url), set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=True,
        task_reject_on_worker_lost=True,  # safe only because SQL caps the attempts
        task_acks_on_failure_or_timeout=True,  # a retry is SQL's business
        task_default_queue=LANES[-1],
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the SQL lease decides
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 600,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,
            "socket_connect_timeout": 2,
            "health_check_interval": 10,
            "global_keyprefix": "shield:",
            "max_retries": 1,  # a sender does not wait for a Redis that is down; a worker's consumer tries for ever
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
            "queue_order_strategy": "priority",  # the interactive lane is looked at first
        },
    )
    return app
