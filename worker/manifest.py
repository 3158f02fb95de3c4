"""Manifests: a line of JSON for each image. A bad line is reported by its number, and its neighbours go on."""

from collections.abc import Iterator
from typing import BinaryIO

from pydantic import ValidationError

from shield.items import LINE_BYTES, ItemSource
from shield.jobs import NewItem

BOM = b"\xef\xbb\xbf"
Fault = tuple[str, str]  # a stable code, and a sentence
Line = tuple[int, NewItem | Fault | None]  # the offset after it, and what it holds: nothing where it is blank


def read_lines(stream: BinaryIO, offset: int) -> Iterator[Line]:
    """The lines from this offset on; never more than one of them in memory."""
    stream.seek(offset)
    at = offset
    while line := stream.readline(LINE_BYTES + 1):
        at += len(line)
        if len(line) > LINE_BYTES and not line.endswith(b"\n"):
            at += _skip_line(stream)
            yield at, ("line_too_long", f"the line is longer than {LINE_BYTES} bytes")
        else:
            yield at, _parse(line)


def _skip_line(stream: BinaryIO) -> int:
    """Pass over what is left of a line; how many bytes."""
    skipped = 0
    while rest := stream.readline(LINE_BYTES):
        skipped += len(rest)
        if rest.endswith(b"\n"):
            break
    return skipped


def _parse(line: bytes) -> NewItem | Fault | None:
    text = line.removeprefix(BOM).strip()
    if not text:
        return None
    try:
        return ItemSource.model_validate_json(text).new_item()
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        if fault["type"] == "json_invalid":
            return "not_json", fault["msg"]
        place = "".join(f"/{part}" for part in fault["loc"])
        return "invalid_item", _clean(f"{place or 'the line'}: {fault['msg']}")


def _clean(text: str) -> str:
    """As a database can keep it: a field's name may hold anything."""
    return text.replace("\0", "").encode(errors="replace").decode()
