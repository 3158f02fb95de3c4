"""Several decoders at work side by side, ahead of whoever takes their images."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from pipeline.images import Decoded, DecodeLimits, Decoder, ImageError

T = TypeVar("T")


class DecoderPool:
    """Decoders, one thread for each. For any number of callers, one after the other or by turns.

    It belongs to the process that made it. Its threads live as long as it does, for the children die with them.
    """

    def __init__(self, size: int, limits: DecodeLimits | None = None) -> None:
        """Start `size` children. Raises OSError when there can be none."""
        self.size = size
        self._decoders = [Decoder(limits) for _ in range(size)]
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="decode")
        self._idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)
        for started in [self._threads.submit(decoder.start) for decoder in self._decoders]:
            started.result()

    def prepare_all(
        self, contents: Iterable[bytes], prepare: Callable[[bytes, Decoded], T], least: int = 0, ahead: int = 0
    ) -> "Generator[T | ImageError, None, None]":
        """What `prepare` makes of each image's file and its pixels, in order; `least` as for Decoder.decode.

        Both go on, in the decoders' threads, while the caller is at other things: as long as at most `ahead` pixels are
        decoded and not yet taken, and in any case until each decoder has had an image.
        """
        under_way = _Ahead(self, contents, prepare, least, ahead)
        try:
            yield from under_way.answers()
        finally:
            under_way.stop()

    def begin(self, work: Callable[[Decoder], T]) -> "Future[T | ImageError]":
        """Have a decoder at work, after those who asked before; the answer, or the ImageError that ended it."""
        return self._threads.submit(self._lend, work)

    def _lend(self, work: Callable[[Decoder], T]) -> T | ImageError:
        decoder = self._idle.get()
        try:
            return work(decoder)
        except ImageError as error:
            return error
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End all children."""
        for decoder in self._decoders:
            decoder.close()  # what is under way ends at once
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()  # what was begun in between has had a child of its own


class _Ahead(Generic[T]):
    """The images of one caller on their way through the pool.

    The next one is begun whenever one ends, in that one's thread: the caller may be busy for long.
    """

    def __init__(
        self,
        pool: DecoderPool,
        contents: Iterable[bytes],
        prepare: Callable[[bytes, Decoded], T],
        least: int,
        pixels: int,
    ) -> None:
        self._pool = pool
        self._rest = iter(contents)
        self._prepare = prepare
        self._least = least
        self._pixels = pixels
        self._begun: deque[Future[tuple[T, int] | ImageError]] = deque()
        self._running = 0
        self._held = 0  # pixels that are decoded and not yet taken
        self._lock = threading.Lock()

    def answers(self) -> Iterator[T | ImageError]:
        """Each image's answer, in order."""
        self._begin()
        while self._begun:
            ended = self._begun.popleft().result()
            answer, held = (ended, 0) if isinstance(ended, ImageError) else ended
            with self._lock:
                self._held -= held
            self._begin()
            yield answer

    def stop(self) -> None:
        """Begin no further image."""
        with self._lock:
            self._rest = iter(())

    def _begin(self) -> None:
        """Begin images while there is a decoder for them, and room."""
        with self._lock:
            while self._running < self._pool.size and self._held <= self._pixels:
                content = next(self._rest, None)
                if content is None:
                    return
                self._running += 1
                self._begun.append(self._pool.begin(partial(self._work, content)))

    def _work(self, content: bytes, decoder: Decoder) -> tuple[T, int]:
        """What is made of an image, and how many pixels that holds."""
        held = 0
        try:
            decoded = decoder.decode(content, self._least)
            prepared = self._prepare(content, decoded)
            held = decoded.pixels.size // 3
            return prepared, held
        finally:
            with self._lock:
                self._running -= 1
                self._held += held
            self._begin()  # before this one is seen to have ended: while images are left, one of them is under way
