"""The one door: order, isolation, batches, crops, views."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.crops import Pixels, square_crop
from pipeline.engine import Floats
from pipeline.hashes import distance
from pipeline.images import Decoded, Decoder, ImageError
from pipeline.results import Box, ErrorCode, Scan
from pipeline.scan import LEAST, Scanner, ScannerSettings, _Subject, calibrated
from pipeline.weights import Calibration
from tests.pipeline.photos import COLLINS, GROUP, HOPPER, LANDSCAPE, encoded, little_photo, pixels_of

PHOTOS = [path.read_bytes() for path in (COLLINS, LANDSCAPE, GROUP, HOPPER)]


@pytest.fixture(scope="module")
def scanner() -> Iterator[Scanner]:
    with Scanner(ScannerSettings(view_side=200)) as scanner:
        yield scanner


def test_scans_come_in_the_order_of_the_images_and_bad_ones_harm_nobody(scanner: Scanner) -> None:
    images = [b"", PHOTOS[0], b"no image", PHOTOS[1], PHOTOS[2], PHOTOS[3][:5000], PHOTOS[3]]
    scans = list(scanner.scan(images))
    codes = [scan.error and scan.error.code for scan in scans]
    assert codes == [ErrorCode.EMPTY, None, ErrorCode.NOT_AN_IMAGE, None, None, ErrorCode.TRUNCATED, None]
    assert [len(scan.faces) for scan in scans] == [0, 1, 0, 0, 6, 0, 1]
    for content, scan in zip(images, scans, strict=True):
        assert (scan.image is None) == (scan.error is not None)
        if scan.image:
            assert scan.image.sha256 == hashlib.sha256(content).hexdigest()


def test_an_image_scores_among_others_as_it_does_alone(scanner: Scanner) -> None:
    together = list(scanner.scan(PHOTOS))
    for content, scan in zip(PHOTOS, together, strict=True):
        (alone,) = scanner.scan([content])
        assert [face.score for face in scan.faces] == pytest.approx([face.score for face in alone.faces], abs=1e-3)


def test_nothing_to_scan_gives_nothing(scanner: Scanner) -> None:
    assert list(scanner.scan([])) == []


def test_the_score_of_an_image_is_that_of_its_worst_face(scanner: Scanner) -> None:
    landscape, group = scanner.scan(PHOTOS[1:3])
    assert landscape.score is None
    assert landscape.faces == ()
    assert group.score == max(face.score for face in group.faces)
    assert all(0 <= face.score <= 1 for face in group.faces)


def test_crops_of_many_images_share_full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    with Scanner(ScannerSettings(batch=5, group_seconds=math.inf)) as scanner:
        run = scanner._classifier.run

        def counting(pixels: Pixels) -> list[Floats]:
            seen.append(len(pixels))
            return run(pixels)

        monkeypatch.setattr(scanner._classifier, "run", counting)
        scans = list(scanner.scan([PHOTOS[0], PHOTOS[2], PHOTOS[3], PHOTOS[2]]))
    assert [len(scan.faces) for scan in scans] == [1, 6, 1, 6]
    assert seen == [5, 5, 4]


@pytest.mark.parametrize(
    ("bounds", "groups"),
    [
        ({"group_seconds": math.inf}, [[0, 1, 2, 3]]),
        ({"group_seconds": 0.0}, [[0], [1], [2], [3]]),
        ({"group_seconds": math.inf, "group_pixels": 1}, [[0], [1], [2], [3]]),
        ({"group_seconds": math.inf, "group_pixels": 300_000}, [[0, 1], [2], [3]]),
    ],
)
def test_scans_come_group_by_group_within_bounds(bounds: dict[str, Any], groups: list[list[int]]) -> None:
    seen: list[list[int]] = []
    taken: list[int] = []
    with Scanner(ScannerSettings(view_side=200)) as usual:
        expected = list(usual.scan(PHOTOS))
    with Scanner(ScannerSettings(view_side=200, **bounds)) as scanner:
        scan_group = scanner._scan_group

        def watched(group: Sequence[_Subject | ImageError]) -> list[Scan]:
            assert taken == [index for before in seen for index in before]  # all of the groups before, nothing else
            seen.append([PHOTOS.index(subject.content) for subject in group if isinstance(subject, _Subject)])
            return scan_group(group)

        scanner._scan_group = watched  # type: ignore[method-assign]
        scans = []
        for index, scan in enumerate(scanner.scan(PHOTOS)):
            taken.append(index)
            scans.append(scan)
    assert seen == groups
    assert [(scan.image, len(scan.faces)) for scan in scans] == [(scan.image, len(scan.faces)) for scan in expected]


def test_a_group_is_smaller_where_images_have_taken_longer() -> None:
    with Scanner(ScannerSettings(group_seconds=100.0)) as scanner:
        scanner._pixel_seconds = 1.0  # as measured on a very slow machine: every image is too much
        scans = scanner.scan([PHOTOS[0]] * 3)
        next(scans)
        assert scanner._pixel_seconds < 1.0  # this one is faster
        assert len(list(scans)) == 2


def test_between_two_scans_the_scanner_is_free_for_others() -> None:
    outer = []
    with Scanner(ScannerSettings(group_pixels=1)) as scanner:
        expected = list(scanner.scan(PHOTOS))
        for scan in scanner.scan(PHOTOS):
            outer.append(scan)
            assert list(scanner.scan(PHOTOS[1:3])) == expected[1:3]
    assert outer == expected


def test_who_takes_only_the_first_scan_leaves_nothing_behind(scanner: Scanner) -> None:
    scans = scanner.scan(PHOTOS * 3)
    assert next(scans).error is None
    scans.close()
    assert len(list(scanner.scan(PHOTOS))) == len(PHOTOS)


@pytest.fixture(scope="module")
def large() -> tuple[bytes, Box]:
    """A photo of 12 megapixels with a face, smaller than the classifier's input at half the size; where that is."""
    photo = pixels_of(HOPPER)
    canvas = np.asarray(little_photo(4000, 3000)).copy()
    top, left = 1201, 1803
    canvas[top : top + photo.shape[0], left : left + photo.shape[1]] = photo
    with Scanner(ScannerSettings()) as scanner:
        (alone,) = scanner.scan([HOPPER.read_bytes()])
    (face,) = alone.faces
    box = Box(face.box.left + left, face.box.top + top, face.box.width, face.box.height)
    return encoded(Image.fromarray(canvas), "JPEG", quality=95), box


def test_a_face_that_is_small_in_a_large_photo_is_scored_at_full_size(
    scanner: Scanner, large: tuple[bytes, Box]
) -> None:
    content, expected = large
    with Image.open(io.BytesIO(content)) as photo:
        whole = np.asarray(photo)
    (scan,) = scanner.scan([content])
    assert scan.image is not None
    assert (scan.image.width, scan.image.height) == (4000, 3000)
    (face,) = scan.faces
    assert face.box.width < 2 * scanner.card.input_size
    for side in ("left", "top", "width", "height"):
        assert getattr(face.box, side) == pytest.approx(getattr(expected, side), abs=0.1 * expected.width)
    crop = square_crop(whole, face.box, scanner.card.margin, scanner.card.input_size)
    assert face.score == pytest.approx(scanner._scores([crop])[0], abs=1e-4)
    assert scan.view is not None
    with Image.open(io.BytesIO(scan.view)) as view:
        assert view.size == (200, 150)


def test_a_photo_that_is_another_one_when_decoded_again_harms_itself_alone(
    scanner: Scanner, large: tuple[bytes, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Decoder.read

    def turned(self: Decoder, content: bytes, reader: Callable[[Decoded], Any], least: int = 0) -> Any:
        if least > LEAST:
            return read(self, content, lambda seen: reader(replace(seen, width=seen.height, height=seen.width)), least)
        return read(self, content, reader, least)

    monkeypatch.setattr(Decoder, "read", turned)
    first, bad, last = scanner.scan([PHOTOS[0], large[0], PHOTOS[2]])
    assert bad.error is not None
    assert bad.error.code is ErrorCode.DECODE_FAILED
    assert (len(first.faces), bad.faces, len(last.faces)) == (1, (), 6)


def test_a_rotated_photo_is_measured_upright(scanner: Scanner) -> None:
    with Image.open(HOPPER) as photo:
        upright_size = photo.size
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = encoded(photo.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    upright, rotated = scanner.scan([HOPPER.read_bytes(), turned])
    assert rotated.image is not None
    assert (rotated.image.width, rotated.image.height) == upright_size
    assert rotated.faces[0].box.left == pytest.approx(upright.faces[0].box.left, abs=4)


def test_the_view_is_small_upright_and_without_metadata(scanner: Scanner) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where I live"
    content = encoded(little_photo(800, 400), "JPEG", exif=exif)
    (scan,) = scanner.scan([content])
    assert scan.view is not None
    assert b"where I live" in content
    assert b"where I live" not in scan.view
    with Image.open(io.BytesIO(scan.view)) as view:
        assert view.format == "JPEG"
        assert view.size == (100, 200)
        assert not view.getexif()


def test_a_small_image_is_not_enlarged_for_its_view(scanner: Scanner) -> None:
    (scan,) = scanner.scan([encoded(little_photo(48, 32), "PNG")])
    assert scan.view is not None
    with Image.open(io.BytesIO(scan.view)) as view:
        assert view.size == (48, 32)


def test_a_file_that_is_a_crop_is_one_face_as_large_as_itself() -> None:
    with Scanner(ScannerSettings(crops=True)) as scanner:
        landscape, portrait, bad = scanner.scan([PHOTOS[1], PHOTOS[0], b"x"])
    assert landscape.image is not None
    (face,) = landscape.faces
    assert (face.box.width, face.box.height) == (landscape.image.width, landscape.image.height)
    assert (face.detection_score, face.landmarks, landscape.view) == (1.0, (), None)
    assert len(portrait.faces) == 1
    assert bad.error is not None


def test_a_result_is_json_in_the_agreed_shape(scanner: Scanner) -> None:
    good, bad = (json.loads(json.dumps(scan.as_json())) for scan in scanner.scan([PHOTOS[0], b""]))
    assert set(good) == {"score", "faces", "image", "model", "error"}
    assert set(good["faces"][0]) == {"box", "detection_score", "score", "landmarks"}
    assert set(good["faces"][0]["box"]) == {"left", "top", "width", "height"}
    assert len(good["faces"][0]["landmarks"]) == 6
    assert set(good["image"]) == {"width", "height", "format", "sha256"}
    assert good["model"] == {
        "name": scanner.card.name,
        "version": scanner.card.version,
        "weights_sha256": scanner.card.weights_sha256,
    }
    assert good["error"] is None
    assert bad == {
        "score": None,
        "faces": [],
        "image": None,
        "model": good["model"],
        "error": {"code": "empty", "detail": "the file has 0 bytes"},
    }


def test_calibration_is_platt_scaling_and_never_overflows() -> None:
    assert calibrated(0.0, Calibration()) == 0.5
    assert calibrated(2.0, Calibration(temperature=2.0, bias=-1.0)) == 0.5
    assert calibrated(3.0, Calibration(temperature=1.5, bias=0.5)) == pytest.approx(1 / (1 + math.exp(-2.5)))
    assert (calibrated(1e9, Calibration()), calibrated(-1e9, Calibration())) == (1.0, 0.0)
    assert np.all(np.diff([calibrated(x, Calibration()) for x in range(-20, 20)]) > 0)


def test_a_copy_that_was_resized_and_compressed_anew_looks_the_same(scanner: Scanner) -> None:
    def looks_of(content: bytes) -> int:
        (scan,) = scanner.scan([content])
        assert scan.image is not None
        assert scan.image.looks is not None
        return int(scan.image.looks, 16)

    with Image.open(io.BytesIO(PHOTOS[0])) as photo:
        smaller = photo.convert("RGB").resize((photo.width * 2 // 3, photo.height * 2 // 3))
    copy = io.BytesIO()
    smaller.save(copy, "JPEG", quality=50)
    first, copied, other = looks_of(PHOTOS[0]), looks_of(copy.getvalue()), looks_of(PHOTOS[3])
    assert distance(first, copied) <= 4 < distance(first, other)
