"""Results as people and scripts read them: a table, CSV, JSON lines."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from deepfake_shield.results import Counts, Job, Result

GAP = "  "
NARROWEST = 16  # columns that a cut cell keeps
COLOURS = {"fake": "31", "suspect": "33", "clear": "32", "failed": "35", "canceled": "2", "inconclusive": "36"}  # ANSI
RESULT_HEAD = ("file", "verdict", "score", "faces", "reasons")
JOB_HEAD = ("job", "state", "items", "done", "failed", "fake", "suspect", "clear", "created", "name")
CSV_HEAD = ("custom_id", "state", "verdict", "score", "faces", "reasons", "error_code", "error_detail", "id")
VERDICTS = ("fake", "suspect", "clear", "no_face", "inconclusive")


def write_table(results: Iterable[Result], stream: TextIO) -> None:
    """Write one row for each result, and a line that sums them up. In a terminal the rows are cut to its width."""
    rows = [_result_row(one) for one in results]  # rows are small: a result holds every landmark of every face
    write_rows(RESULT_HEAD, rows, stream, right=(2, 3))
    outcomes = [row[1] for row in rows]
    found = [f"{outcomes.count(name)} {name}" for name in (*VERDICTS, "failed", "canceled") if name in outcomes]
    stream.write(f"\n{len(rows)} image{'s' if len(rows) != 1 else ''}: {', '.join(found) or 'no result yet'}\n")


def _result_row(one: Result) -> tuple[str, ...]:
    score = "" if one.score is None else f"{one.score:.3f}"
    faces = str(len(one.faces)) if one.verdict else ""
    reasons = ", ".join(one.reasons) or ": ".join(text for text in (one.error_code, one.error_detail) if text)
    return (one.custom_id or one.id, one.verdict or one.state, score, faces, reasons)


def write_jobs(jobs: Iterable[Job], stream: TextIO) -> None:
    """Write one row for each job."""
    write_rows(JOB_HEAD, [_job_row(job) for job in jobs], stream, right=tuple(range(2, 8)))


def _job_row(job: Job) -> tuple[str, ...]:
    counts = job.counts
    numbers = (counts.total, counts.done, counts.failed, counts.fake, counts.suspect, counts.clear)
    created = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}" if job.created_at else ""
    return (job.id, job.state, *map(str, numbers), created, job.name)


def write_csv(results: Iterable[Result], stream: TextIO) -> None:
    """Write a head and one row for each result, as they come."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for one in results:
        row = (one.custom_id, one.state, one.verdict, one.score, len(one.faces), " ".join(one.reasons))
        writer.writerow((*row, one.error_code, one.error_detail, one.id))


def write_jsonl(results: Iterable[Result], stream: TextIO) -> None:
    """Write one JSON object for each result, as the server sent it and as they come."""
    stream.writelines(json.dumps(one.raw, ensure_ascii=False) + "\n" for one in results)


WRITERS: dict[str, Callable[[Iterable[Result], TextIO], None]] = {
    "table": write_table,
    "jsonl": write_jsonl,
    "csv": write_csv,
}


def write_rows(head: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO, right: tuple[int, ...] = ()) -> None:
    """Write columns as wide as they need to be; `right` are the places of those that stand to the right.

    In a terminal, the widest columns are cut until a row fits, and words such as `fake` are coloured.
    """
    clean = [[_printable(cell, stream) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in clean) for place in range(len(head))]
    live = stream.isatty()
    if live:
        _fit(widths, shutil.get_terminal_size().columns)
    coloured = live and "NO_COLOR" not in os.environ
    for number, row in enumerate(clean):
        cells = [_cell(cell, widths[place], place in right) for place, cell in enumerate(row)]
        if coloured:
            cells = [_colour(cell, "1" if number == 0 else COLOURS.get(cell.strip(), "")) for cell in cells]
        stream.write(GAP.join(cells).rstrip() + "\n")


def summary(counts: Counts) -> str:
    """Say in a few words how the items of a job stand."""
    names = (*VERDICTS, "failed", "canceled", "pending")
    return ", ".join(f"{number} {name}" for name in names if (number := getattr(counts, name))) or "no items"


def _fit(widths: list[int], room: int) -> None:
    """Take from the widest column until all of them fit the room, or the widest is as narrow as it may be."""
    while sum(widths) + len(GAP) * (len(widths) - 1) > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1


def _cell(text: str, width: int, right: bool) -> str:
    if len(text) > width:  # the end of a path or of a sentence's code tells more than its middle
        text = f"{text[: (width - 1) // 2]}…{text[len(text) - width // 2 :]}"
    return text.rjust(width) if right else text.ljust(width)


def _printable(text: str, stream: TextIO) -> str:
    """Make text safe for a terminal: a file's name may hold escape sequences, or what the terminal cannot show."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    encoding = stream.encoding or "ascii"
    return shown.encode(encoding, "replace").decode(encoding)


def _colour(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if code else text
