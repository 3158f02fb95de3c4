"""Bytes that come in pieces, as a stream."""

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

BUFFER = 64 * 1024  # bytes


def stream_of(pieces: Iterator[bytes]) -> BinaryIO:
    """A stream of these bytes, one piece of them in memory at a time; what `pieces` raises, its reader gets."""
    return cast("BinaryIO", io.BufferedReader(_Pieces(pieces), BUFFER))


class _Pieces(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast("bytearray", buffer))
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = piece
        count = min(len(target), len(self._held))
        target[:count], self._held = self._held[:count], self._held[count:]
        return count
