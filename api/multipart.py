"""Multipart bodies, read as they arrive: one part at a time, none of them held in memory or in a temporary file.

Flask's own form parser keeps every file open until the last has come, which ten thousand files would not survive.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from api.errors import Malformed, TooLargeUpload

READ = 64 * 1024  # bytes taken from the connection at a time


class _Body(io.RawIOBase):
    """The bytes of one part, as the decoder hands them out."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._held = b""
        self._more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast("bytearray", buffer))
        while not self._held and self._more:
            event = next(self._events)
            if not isinstance(event, Data):
                raise Malformed("the multipart body is cut off inside a part")
            self._held, self._more = event.data, event.more_data
        count = min(len(target), len(self._held))
        target[:count], self._held = self._held[:count], self._held[count:]
        return count


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `filename` is None for a text field. Read the body before asking for the next part."""

    name: str
    filename: str | None
    body: "io.BufferedReader[_Body]"

    def text(self, limit: int) -> str:
        """The body of a text field. Raises Malformed beyond `limit` bytes, or when it is not UTF-8."""
        content = self.body.read(limit + 1)
        if len(content) > limit:
            raise Malformed(f"the field {self.name!r} is longer than {limit} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"the field {self.name!r} is not UTF-8") from error


def read_parts(request: Request) -> Iterator[Part]:
    """The parts of a multipart/form-data request, in order. Raises Malformed where the body does not parse."""
    events = _events(request)
    for event in events:
        if isinstance(event, (Field, File)):
            body = io.BufferedReader(_Body(events), READ)
            yield Part(event.name or "", getattr(event, "filename", None), body)
            while body.read(READ):  # what the reader of the part left
                pass


def _events(request: Request) -> Iterator[Event]:
    boundary = request.mimetype_params.get("boundary", "").encode("ascii", "replace")
    if not boundary:
        raise Malformed("the Content-Type of a multipart body must name its boundary")
    decoder = MultipartDecoder(boundary, request.max_form_memory_size, max_parts=request.max_form_parts)
    while True:
        event = _next_event(decoder)
        while isinstance(event, NeedData):
            _receive(decoder, request.stream.read(READ))
            event = _next_event(decoder)
        yield event
        if isinstance(event, Epilogue):
            return


def _receive(decoder: MultipartDecoder, content: bytes) -> None:
    try:
        decoder.receive_data(content or None)
    except RequestEntityTooLarge as error:
        limit = decoder.max_form_memory_size
        raise TooLargeUpload(f"the headers of one part are larger than the limit of {limit} bytes") from error


def _next_event(decoder: MultipartDecoder) -> Event:
    try:
        return decoder.next_event()
    except RequestEntityTooLarge as error:
        detail = f"the form has more than {decoder.max_parts} parts: split it into more jobs"
        raise TooLargeUpload(detail) from error
    except ValueError as error:
        raise Malformed(f"the multipart body does not parse: {error}") from error
