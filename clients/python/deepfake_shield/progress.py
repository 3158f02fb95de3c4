"""A progress bar on one line of a terminal; where there is no terminal, a plain line now and then."""

import time
from types import TracebackType
from typing import Self, TextIO

from deepfake_shield.results import Counts

WIDTH = 28  # cells of the bar
REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 1.0
TENTHS = 10
MIB = 1024 * 1024
CLEAR_LINE = "\r\x1b[2K"


class Progress:
    """Shows how far an upload and then a job are. Write nothing else to the stream while it is open."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._filled, self._empty = ("█", "░") if _can_write(stream, "█░") else ("#", ".")
        self._start = time.monotonic()
        self._drawn_at = 0.0
        self._last: tuple[str, int] = ("", -1)

    def upload(self, sent: int, size: int) -> None:
        """Bytes sent and bytes in all."""
        self._show("upload", sent, size, f"{sent / MIB:.1f} of {size / MIB:.1f} MiB")

    def scan(self, counts: Counts) -> None:
        """How the items of a job stand."""
        seconds = time.monotonic() - self._start
        found = [f"{number} {name}" for name in ("fake", "suspect", "failed") if (number := getattr(counts, name))]
        parts = [f"{counts.terminal} of {counts.total}", *found, f"{int(seconds) // 60}:{int(seconds) % 60:02}"]
        self._show("scan", counts.terminal, counts.total, "  ".join(parts))

    def _show(self, name: str, done: int, total: int, text: str) -> None:
        share = done / total if total else 1.0
        tenth = name, int(share * TENTHS)  # plain lines come a tenth apart, and not too fast
        due = time.monotonic() - self._drawn_at >= (REDRAW_SECONDS if self._live else PLAIN_SECONDS)
        if tenth == self._last and not (self._live and due):
            return
        if not due and done < total:
            return
        if self._live:
            cells = int(share * WIDTH)
            bar = self._filled * cells + self._empty * (WIDTH - cells)
            self._stream.write(f"{CLEAR_LINE}{name:<6} {bar} {share:4.0%}  {text}")
        else:
            self._stream.write(f"{name} {share:.0%}: {text}\n")
        self._stream.flush()
        self._last, self._drawn_at = tenth, time.monotonic()

    def note(self, line: str) -> None:
        """Write a line above the bar."""
        self.clear()
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the bar away, to make room for something else."""
        if self._live:
            self._stream.write(CLEAR_LINE)
            self._stream.flush()
        self._last = ("", -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
