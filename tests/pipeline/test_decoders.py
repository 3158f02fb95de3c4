"""Several decoders: in order, ahead of the reader but not far, for more than one reader."""

import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.decoders import DecoderPool
from pipeline.images import Decoded, Decoder, ImageError
from pipeline.results import ErrorCode
from tests.pipeline.photos import encoded, little_photo

SIZES = [(40 + index, 20) for index in range(12)]
PHOTOS = [encoded(little_photo(*size), "PNG") for size in SIZES]
WIDTHS = [width for width, _ in SIZES]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(2)
    yield pool
    pool.close()


class Given:
    """The photos, and how many of them were asked for; `enough` is set with the last."""

    def __init__(self) -> None:
        self.count = 0
        self.enough = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        for content in PHOTOS:
            self.count += 1
            if self.count == len(PHOTOS):
                self.enough.set()
            yield content


def width(_: bytes, decoded: Decoded) -> int:
    return len(decoded.pixels[0])


def settled(given: Given) -> int:
    """How many photos were asked for once no more are."""
    before = -1
    while before != given.count:
        before = given.count
        time.sleep(0.2)
    return before


@pytest.mark.parametrize("ahead", [0, 1000, 10**9])
@pytest.mark.parametrize("size", [1, 3])
def test_answers_come_in_order_with_bad_images_in_between(size: int, ahead: int) -> None:
    contents = list(PHOTOS)
    contents[3], contents[7] = b"", b"nothing"
    pool = DecoderPool(size)
    try:
        answers = list(pool.prepare_all(contents, width, ahead=ahead))
    finally:
        pool.close()
    told = [answer.code if isinstance(answer, ImageError) else answer for answer in answers]
    assert told == [40, 41, 42, ErrorCode.EMPTY, 44, 45, 46, ErrorCode.NOT_AN_IMAGE, 48, 49, 50, 51]


def test_decoding_goes_on_while_the_reader_is_busy(pool: DecoderPool) -> None:
    given = Given()
    answers = pool.prepare_all(given, width, ahead=10**9)
    assert next(answers) == WIDTHS[0]
    assert given.enough.wait(10)
    assert list(answers) == WIDTHS[1:]


def test_no_more_is_decoded_ahead_than_there_is_room_for(pool: DecoderPool) -> None:
    given = Given()
    answers = pool.prepare_all(given, width, ahead=3 * 50 * 20)
    next(answers)
    assert 3 <= settled(given) <= 1 + 3 + 1 + pool.size
    assert list(answers) == WIDTHS[1:]


def test_two_readers_take_turns(pool: DecoderPool) -> None:
    one = pool.prepare_all(PHOTOS, width, ahead=10**9)
    assert next(one) == WIDTHS[0]
    assert list(pool.prepare_all(PHOTOS[::-1], width, ahead=10**9)) == WIDTHS[::-1]
    assert list(one) == WIDTHS[1:]


def test_a_reader_that_goes_away_stops_what_was_ahead_of_it(pool: DecoderPool) -> None:
    given = Given()
    answers = pool.prepare_all(given, width)
    next(answers)
    answers.close()
    asked = settled(given)
    assert asked < len(PHOTOS)
    assert list(pool.prepare_all(PHOTOS, width)) == WIDTHS
    assert given.count == asked


def test_a_single_piece_of_work_is_answered_or_its_error_given(pool: DecoderPool) -> None:
    def work(decoder: Decoder, content: bytes) -> int:
        return decoder.read(content, lambda seen: seen.width)

    assert pool.begin(lambda decoder: work(decoder, PHOTOS[2])).result() == WIDTHS[2]
    failed = pool.begin(lambda decoder: work(decoder, b"")).result()
    assert isinstance(failed, ImageError)
    assert failed.code is ErrorCode.EMPTY
