"""Guarded decoding: every form of image comes out upright and in RGB, every bad one with its code."""

import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.crops import resize
from pipeline.decode_child import ANSWER, OUTCOMES
from pipeline.decoders import DecoderPool
from pipeline.images import Decoded, DecodeLimits, Decoder, ImageError, Pixels
from pipeline.results import ErrorCode
from tests.pipeline.photos import encoded, little_photo, png_header

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which Linux alone has")


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


def code_of(decoder: Decoder, content: bytes) -> ErrorCode:
    with pytest.raises(ImageError) as caught:
        decoder.decode(content)
    assert caught.value.detail
    return caught.value.code


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_same_upright_pixels(decoder: Decoder, orientation: int) -> None:
    upright = little_photo()
    # What a camera stores for each orientation: the inverse of the turn that a viewer has to make.
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation in stored else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decoder.decode(encoded(image, "PNG", exif=exif))
    assert np.array_equal(decoded.pixels, np.asarray(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_shrunk_photo_is_upright_and_tells_the_size_of_the_whole(decoder: Decoder, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(little_photo(66, 65), "JPEG", quality=95, exif=exif)  # a half of it is square
    whole, half = decoder.decode(content), decoder.decode(content, least=33)
    assert (whole.width, whole.height) == (half.width, half.height) == ((66, 65) if orientation < 5 else (65, 66))
    assert (whole.pixels.shape, whole.shrink) == ((whole.height, whole.width, 3), 1)
    assert (half.pixels.shape, half.shrink) == ((33, 33, 3), 2)
    expected = resize(whole.pixels, 33, 33).astype(int)
    assert np.abs(half.pixels - expected).mean() < 8 < np.abs(half.pixels - expected[::-1]).mean()


@pytest.mark.parametrize(
    ("least", "shrink"), [(0, 1), (641, 1), (640, 1), (321, 1), (320, 2), (160, 4), (81, 4), (80, 8), (1, 8)]
)
def test_a_photo_is_decoded_as_small_as_leaves_its_longest_side_long_enough(
    decoder: Decoder, least: int, shrink: int
) -> None:
    decoded = decoder.decode(encoded(little_photo(427, 640), "JPEG"), least)
    assert decoded.shrink == shrink
    assert decoded.pixels.shape == (-(-640 // shrink), -(-427 // shrink), 3)


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("WEBP", "RGB"), ("JPEG", "CMYK")])
def test_what_cannot_be_shrunk_on_the_way_comes_in_full(decoder: Decoder, kind: str, mode: str) -> None:
    decoded = decoder.decode(encoded(little_photo(640, 480).convert(mode), kind), least=100)
    assert (decoded.pixels.shape, decoded.shrink) == ((480, 640, 3), 1)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_a_jpeg_s_pixels_are_those_that_pillow_decodes(decoder: Decoder, mode: str, options: dict[str, object]) -> None:
    content = encoded(little_photo(333, 222).convert(mode), "JPEG", **options)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(decoder.decode(content).pixels, np.asarray(image.convert("RGB")))


def test_a_flaw_that_may_be_overlooked_is_overlooked(decoder: Decoder) -> None:
    content = bytearray(encoded(little_photo(320, 240), "JPEG"))
    middle = len(content) // 2
    content[middle : middle + 2] = b"\xff\xd0"  # a marker where none belongs
    decoded = decoder.decode(bytes(content), least=100)
    assert decoded.shrink == 1  # left to Pillow
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(decoded.pixels, np.asarray(image))


def test_a_shrunk_photo_cut_short_is_truncated(decoder: Decoder) -> None:
    content = encoded(little_photo(640, 480), "JPEG")
    with pytest.raises(ImageError) as caught:
        decoder.decode(content[: len(content) * 9 // 10], least=100)
    assert caught.value.code is ErrorCode.TRUNCATED


def test_a_reader_sees_the_pixels_where_they_lie_and_cannot_change_them(decoder: Decoder) -> None:
    content = encoded(little_photo(), "PNG")
    whole = decoder.decode(content).pixels

    def corner(seen: Decoded) -> Pixels:
        assert not seen.pixels.flags.writeable
        return seen.pixels[:4, :5].copy()

    assert np.array_equal(decoder.read(content, corner), whole[:4, :5])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_an_allowed_format_is_decoded_and_named(decoder: Decoder, kind: str) -> None:
    photo = little_photo()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    decoded = decoder.decode(encoded(photo, kind, **options))
    assert decoded.format == kind
    assert np.abs(decoded.pixels.astype(int) - np.asarray(photo)).mean() < 8  # GIF has 256 colours


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_other_colour_modes_become_rgb(decoder: Decoder, mode: str) -> None:
    photo = little_photo().convert(mode)
    content = encoded(photo, "JPEG" if mode == "CMYK" else "PNG", **({"quality": 95} if mode == "CMYK" else {}))
    expected = np.asarray(photo.convert("RGB")).astype(int)
    pixels = decoder.decode(content).pixels
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < 4


def test_sixteen_bit_grey_keeps_its_brightness(decoder: Decoder) -> None:
    ramp = np.linspace(0, 65535, 64 * 32).astype(np.uint16).reshape(32, 64)
    pixels = decoder.decode(encoded(Image.fromarray(ramp), "PNG")).pixels
    assert np.abs(pixels[..., 0].astype(int) - ramp // 256).max() <= 1


def test_transparency_lies_on_white(decoder: Decoder) -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert (decoder.decode(encoded(clear, "PNG")).pixels == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(decoder: Decoder, kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert (np.abs(decoder.decode(content).pixels.astype(int) - [255, 0, 0]) < 12).all()


def test_a_single_pixel_is_an_image(decoder: Decoder) -> None:
    assert decoder.decode(encoded(Image.new("RGB", (1, 1)), "PNG")).pixels.shape == (1, 1, 3)


@linux_only
def test_what_a_large_image_took_is_given_back(decoder: Decoder) -> None:
    assert decoder.decode(encoded(Image.new("RGB", (7000, 7000)), "PNG")).pixels.shape == (7000, 7000, 3)
    status = Path(f"/proc/{decoder.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert resident < 100_000  # kB; the image alone is 196,000


def test_a_camera_s_jpeg_with_a_second_picture_behind_it_is_a_jpeg(decoder: Decoder) -> None:
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    decoded = decoder.decode(encoded(red, "MPO", save_all=True, append_images=[blue]))
    assert decoded.format == "JPEG"
    assert (np.abs(decoded.pixels.astype(int) - [255, 0, 0]) < 12).all()


def test_nothing_is_empty(decoder: Decoder) -> None:
    assert code_of(decoder, b"") is ErrorCode.EMPTY


TEXTS = [
    b"hello, world",
    b"BMW is a car, and this is a sentence",
    b"\x00" * 64,
    b"<!doctype html><html>",
    b"PK\x03\x04",
]


@pytest.mark.parametrize("content", TEXTS)
def test_what_is_no_image_is_said_to_be_none(decoder: Decoder, content: bytes) -> None:
    assert code_of(decoder, content) is ErrorCode.NOT_AN_IMAGE


@pytest.mark.parametrize("kind", ["TIFF", "JPEG2000", "ICO"])
def test_an_image_of_a_format_not_allowed_is_refused_by_name(decoder: Decoder, kind: str) -> None:
    assert code_of(decoder, encoded(little_photo(), kind)) is ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_file_cut_short_is_truncated_and_never_half_grey(decoder: Decoder, kind: str, share: float) -> None:
    content = encoded(little_photo(640, 480), kind)
    assert code_of(decoder, content[: int(len(content) * share)]) is ErrorCode.TRUNCATED


def test_a_progressive_photo_cut_short_is_truncated(decoder: Decoder) -> None:
    content = encoded(little_photo(640, 480), "JPEG", progressive=True)
    assert code_of(decoder, content[: len(content) * 2 // 3]) is ErrorCode.TRUNCATED


def test_a_whole_file_with_damaged_data_has_failed_to_decode(decoder: Decoder) -> None:
    content = bytearray(encoded(little_photo(640, 480), "PNG"))
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    assert code_of(decoder, bytes(content)) is ErrorCode.DECODE_FAILED


def test_a_huge_size_is_refused_from_the_header(decoder: Decoder) -> None:
    assert code_of(decoder, png_header(60_000, 60_000)) is ErrorCode.TOO_MANY_PIXELS


def test_a_huge_webp_is_refused_from_the_header(decoder: Decoder) -> None:
    header = b"RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + bytes(4) + (16_000).to_bytes(3, "little") * 2
    assert code_of(decoder, header) is ErrorCode.TOO_MANY_PIXELS


def test_more_bytes_than_the_limit_are_too_large() -> None:
    content = encoded(little_photo(), "PNG")
    with Decoder(DecodeLimits(max_bytes=len(content) - 1)) as decoder:
        assert code_of(decoder, content) is ErrorCode.TOO_LARGE
        assert decoder.pid is None  # refused before a child was even started


def test_more_memory_than_the_limit_is_too_large() -> None:
    limits = DecodeLimits(max_pixels=100_000_000, memory_bytes=500 * 2**20)  # 286 MiB of them are shared
    with Decoder(limits) as decoder:
        assert code_of(decoder, png_header(10_000, 10_000)) is ErrorCode.TOO_LARGE
        assert decoder.decode(encoded(little_photo(), "PNG")).pixels.shape == (32, 48, 3)


def test_a_decoder_killed_while_idle_is_replaced_unseen(decoder: Decoder) -> None:
    content = encoded(little_photo(), "PNG")
    decoder.decode(content)
    first = decoder._child
    assert first is not None
    first.kill()
    first.wait()
    assert decoder.decode(content).pixels.shape == (32, 48, 3)
    assert decoder.pid != first.pid


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_decoder_that_dies_in_mid_decode_costs_that_image_alone(decoder: Decoder, name: str) -> None:
    content = encoded(little_photo(), "PNG")
    decoder.decode(content)
    child = decoder.pid
    assert child is not None
    os.kill(child, signal.SIGSTOP)  # it takes the image and never answers
    killer = threading.Timer(0.2, _end_by, (child, signal.Signals[name]))
    killer.start()
    with pytest.raises(ImageError, match=f"ended by {name}") as caught:
        decoder.decode(content)
    assert caught.value.code is ErrorCode.DECODER_CRASHED
    killer.join()
    assert decoder.decode(content).pixels.shape == (32, 48, 3)


def test_a_decoder_that_hangs_is_ended_at_the_time_limit() -> None:
    content = encoded(little_photo(), "PNG")
    with Decoder(replace(DecodeLimits(), seconds=5.0)) as decoder:
        decoder.decode(content)
        child = decoder.pid
        assert child is not None
        decoder.limits = replace(decoder.limits, seconds=0.2)
        os.kill(child, signal.SIGSTOP)
        assert code_of(decoder, content) is ErrorCode.DECODE_TIMEOUT
        decoder.limits = replace(decoder.limits, seconds=5.0)
        assert decoder.decode(content).pixels.shape == (32, 48, 3)
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_a_decoder_past_its_processor_time_is_a_timeout(decoder: Decoder) -> None:
    content = encoded(little_photo(), "PNG")
    decoder.decode(content)
    child = decoder.pid
    assert child is not None
    os.kill(child, signal.SIGSTOP)  # it takes the image and never answers
    killer = threading.Timer(0.2, _end_by, (child, signal.SIGXCPU))
    killer.start()
    assert code_of(decoder, content) is ErrorCode.DECODE_TIMEOUT
    killer.join()
    assert decoder.decode(content).pixels.shape == (32, 48, 3)


def _end_by(child: int, number: signal.Signals) -> None:
    os.kill(child, number)  # SIGXCPU is what the kernel sends at RLIMIT_CPU; pending until the child goes on
    os.kill(child, signal.SIGCONT)


ANSWERS = {
    "an outcome that is none": ANSWER.pack(len(OUTCOMES), 1, 1, 1),
    "more pixels than the limit": ANSWER.pack(0, 65_000, 65_000, 1),
    "more pixels than it lets one see": ANSWER.pack(0, 65_000, 65_000, 8),
    "a shrink that is none": ANSWER.pack(0, 8, 8, 0),
    "no pixels": ANSWER.pack(0, 0, 7, 1),
    "half an answer": ANSWER.pack(0, 1, 1, 1)[:4],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_child_that_was_taken_over_is_not_believed(decoder: Decoder, answer: bytes) -> None:
    content = encoded(little_photo(), "PNG")
    decoder.decode(content)
    child, line = decoder.pid, decoder._line
    assert line is not None
    ours, theirs = socket.socketpair()
    decoder._line = ours
    line.close()
    with theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        assert code_of(decoder, content) is ErrorCode.DECODER_CRASHED
    assert decoder.decode(content).pixels.shape == (32, 48, 3)
    assert decoder.pid != child


def test_a_decoder_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="the decoder does not start: the child has gone"):
        DecoderPool(1)


def test_a_forked_process_gets_a_child_of_its_own(decoder: Decoder) -> None:
    content = encoded(little_photo(), "PNG")
    decoder.decode(content)
    before = decoder.pid
    forked = os.fork()
    if forked == 0:
        worked = decoder.decode(content).pixels.shape == (32, 48, 3) and decoder.pid != before
        decoder.close()
        os._exit(0 if worked else 1)
    _, ended = os.waitpid(forked, 0)
    assert os.waitstatus_to_exitcode(ended) == 0
    assert decoder.decode(content).pixels.shape == (32, 48, 3)
    assert decoder.pid == before
