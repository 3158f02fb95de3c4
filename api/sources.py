"""Sources: a body that is a manifest or a zip, stored as it arrives and looked at before it is accepted."""

from collections.abc import Iterator
from typing import BinaryIO

from flask import Request
from pydantic_core import from_json

from api.errors import TooLargeUpload
from api.stores import stores
from shield import archive
from shield.archive import Archive, Limits
from shield.blobs import TooLarge
from shield.errors import InvalidSubmission, NotJsonLines
from shield.items import LINE_BYTES
from shield.streams import BUFFER, stream_of

BOM = b"\xef\xbb\xbf"


def store_manifest(request: Request) -> str:
    """Store a body of JSON Lines; its sha256. Of its lines only the first is looked at: the others are reported later.

    Raises NotJsonLines, InvalidSubmission for an empty body, TooLargeUpload, StorageUnavailable.
    """
    head = b""
    pieces = _pieces(request)
    while len(head) <= LINE_BYTES and (piece := next(pieces, None)):
        head += piece
    _check_first_line(head)
    return _store(_joined(head, pieces))


def store_zip(request: Request) -> str:
    """Store a zip whose directory is safe to unpack; its sha256.

    Raises NotAZip, UnsafeZip, ZipBomb, InvalidSubmission for one without files, TooLargeUpload, StorageUnavailable.
    """
    blob = _store(_pieces(request))
    config = stores().settings
    limits = Limits(config.max_source_items, config.max_zip_bytes, config.max_zip_ratio)
    with stores().blobs.open(blob) as stream:
        if not archive.check(Archive(stream), limits):
            raise InvalidSubmission("the zip holds no file: a job needs at least one item")
    return blob


def _check_first_line(head: bytes) -> None:
    text = head.removeprefix(BOM).lstrip()
    if not text and len(head) <= LINE_BYTES:
        raise InvalidSubmission("the manifest is empty: a job needs at least one item")
    line, newline, _ = text.partition(b"\n")
    if len(line) > LINE_BYTES or (not newline and len(head) > LINE_BYTES):
        raise NotJsonLines(f"the first line does not end within {LINE_BYTES} bytes: send an image a line")
    try:
        first = from_json(line)
    except ValueError as error:
        raise NotJsonLines(f"the first line is not JSON: {error}") from error
    if not isinstance(first, dict):
        raise NotJsonLines('the first line is no JSON object: send an image a line, such as {"url": "https://..."}')


def _pieces(request: Request) -> Iterator[bytes]:
    while piece := request.stream.read(BUFFER):
        yield piece


def _joined(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _store(pieces: Iterator[bytes]) -> str:
    limit = stores().settings.max_request_bytes
    stream: BinaryIO = stream_of(pieces)
    try:
        return stores().blobs.put(stream, limit)
    except TooLarge as error:
        raise TooLargeUpload(f"the body is larger than the limit of {limit} bytes: split it into more jobs") from error
