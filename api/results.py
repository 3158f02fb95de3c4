"""The results of a job, streamed: JSON Lines for programs, a table for spreadsheets."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from threading import BoundedSemaphore, Lock
from typing import Generic, NamedTuple, TypeVar

from flask import Response

from api import schemas
from api.stores import stores
from shield import jobs, models
from shield.errors import RateLimited

LINES = 100  # of results that are sent together
READERS = BoundedSemaphore(2)  # streams that read at once: it is work for the CPU, and other requests want some too
STREAMS = 4  # of one account at a time: each keeps a thread, also while it waits for its turn to read
STREAM_SECONDS = 5.0  # to wait for while there are more
COLUMNS = (
    "id", "custom_id", "state", "verdict", "score", "faces", "reasons", "width", "height", "format", "sha256", "model",
    "policy_version", "error_code", "error_detail",
)  # fmt: skip
# What spreadsheets take for the beginning of a formula; the last four as East Asian ones write them.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


Shown = TypeVar("Shown")


class Form(NamedTuple, Generic[Shown]):
    """How results are written: what they begin with, and the line of each."""

    mimetype: str
    head: str
    line: Callable[[Shown], str]


def _json_line(row: models.Item) -> str:
    return schemas.Item.of(row).model_dump_json() + "\n"


def _table_line(row: models.Item) -> str:
    model = f"{row.weights.name} {row.weights.version}" if row.weights else ""
    texts = (row.custom_id, row.error_detail)
    custom_id, error_detail = (_no_formula(text or "") for text in texts)
    cells = (
        row.id, custom_id, row.state, row.verdict, row.score, len(row.faces), " ".join(row.reasons), row.image_width,
        row.image_height, row.image_format, row.image_sha256, model, row.policy_version, row.error_code, error_detail,
    )  # fmt: skip
    return _written(cells)


def _no_formula(text: str) -> str:
    """A text that no spreadsheet computes: what would be a formula is quoted, as a person would."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _written(cells: tuple[object, ...]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


JSONL = Form("application/jsonl", "", _json_line)
# The mark at its beginning is how spreadsheets know UTF-8.
CSV = Form("text/csv", "\ufeff" + _written(COLUMNS), _table_line)


class Streams:
    """How many results each account has read to it now."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: Counter[str] = Counter()

    def open(self, account_id: str) -> ExitStack:
        """One more, until the answer is closed. Raises RateLimited where there are STREAMS already."""
        with self._lock:
            if self._open[account_id] >= STREAMS:
                detail = f"{STREAMS} results of this account are being read: read them to their end first"
                raise RateLimited(detail, STREAM_SECONDS)
            self._open[account_id] += 1
        stream = ExitStack()
        stream.callback(self._close, account_id)
        return stream

    def _close(self, account_id: str) -> None:
        with self._lock:
            self._open[account_id] -= 1
            self._open += Counter()  # without those that have none


_streams = Streams()


def stream(job: models.Job, form: Form[models.Item]) -> Response:
    """The terminal items of a job, a line each. Raises RateLimited."""
    return stream_rows(job.account_id, jobs.results(stores().database, job), form)


def stream_rows(account_id: str, rows: Iterator[Shown], form: Form[Shown]) -> Response:
    """These rows of an account, a line each; no more of them in memory than `rows` holds.

    The first are read at once, so that what hinders it is answered as an error. Raises RateLimited, StorageUnavailable.
    """
    opened = _streams.open(account_id)

    def lines() -> Iterator[str]:
        head = form.head
        with opened:
            while True:
                with READERS:
                    some = [form.line(row) for row in islice(rows, LINES)]
                if not (some or head):
                    return
                yield head + "".join(some)
                head = ""

    written = lines()
    first = next(written, "")
    response = Response(chain((first,), written), mimetype=form.mimetype)
    response.call_on_close(opened.close)  # also where nothing more of it was read
    return response
