"""Explanations of real photos: they are of the very score that the scan gave."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pipeline.batching import run_in_batches
from pipeline.crops import square_crop
from pipeline.explain import LARGEST, WAYS, explain
from pipeline.heatmap import FOR, spread
from pipeline.results import Box, ErrorCode, Scan, ScanError, Why
from pipeline.scan import CLASSIFIER, Scanner, ScannerSettings, encode_view
from pipeline.weights import load_card
from tests.pipeline.photos import COLLINS, GROUP, SAMPLES, pixels_of

FAKE = SAMPLES / "fakes" / "collins_with_hopper.jpg"
VIEW = 200  # pixels, longest side


@pytest.fixture(scope="module")
def scanner() -> Iterator[Scanner]:
    with Scanner(ScannerSettings(view_side=VIEW, decoders=1)) as scanner:
        yield scanner


def explained(scanner: Scanner, content: bytes) -> tuple[Scan, list[Why]]:
    (scan,) = scanner.scan([content])
    assert scan.image is not None
    whys = scanner.explain(content, [face.box for face in scan.faces], scan.image.width)
    assert isinstance(whys, list)
    return scan, whys


def strength(why: Why, colour: tuple[int, int, int]) -> int:
    """How much of a heat map is of this colour."""
    with Image.open(io.BytesIO(why.heatmap)) as image:
        heat = np.asarray(image)
    return int(heat[(heat[..., :3] == colour).all(axis=-1), 3].astype(int).sum())


def test_what_is_explained_is_the_score_that_the_scan_gave(scanner: Scanner) -> None:
    for photo in (COLLINS, FAKE, GROUP):
        scan, whys = explained(scanner, photo.read_bytes())
        assert [why.score for why in whys] == pytest.approx([face.score for face in scan.faces], abs=1e-5)


def test_the_square_and_the_crop_are_what_the_classifier_saw(scanner: Scanner) -> None:
    scan, whys = explained(scanner, FAKE.read_bytes())
    (face,), (why,) = scan.faces, whys
    assert why.side == pytest.approx(max(face.box.width, face.box.height), abs=1)
    assert why.left + why.side / 2 == pytest.approx(face.box.left + face.box.width / 2, abs=1)
    assert why.top + why.side / 2 == pytest.approx(face.box.top + face.box.height / 2, abs=1)
    card = scanner.card
    seen = square_crop(pixels_of(FAKE), face.box, card.margin, card.input_size).astype(int)
    with Image.open(io.BytesIO(why.crop)) as crop:
        assert (crop.format, crop.size) == ("JPEG", (card.input_size, card.input_size))
        assert np.abs(np.asarray(crop) - seen).mean() < 3


def test_a_swapped_face_speaks_for_a_forgery_and_the_face_it_replaced_against_it(scanner: Scanner) -> None:
    (fake,), (original,) = (explained(scanner, photo.read_bytes())[1] for photo in (FAKE, COLLINS))
    assert fake.score > scanner.card.thresholds["suspect"] > original.score
    assert strength(fake, FOR) > 5 * strength(original, FOR)


def test_the_forged_half_of_a_face_speaks_louder_than_the_other(scanner: Scanner) -> None:
    """A map could be exact and still say nothing of where the forgery is: 7 swapped faces, half of each put back."""
    ramp = np.clip(np.linspace(-8, 8, scanner.card.input_size), 0, 1)
    keeps = [side * np.ones((len(ramp), 1, 1)) for side in (ramp[None, :, None], 1 - ramp[None, :, None])]
    keeps += [keep.swapaxes(0, 1) for keep in keeps]
    mixed = []
    for fake in sorted((SAMPLES / "fakes").glob("*.jpg")):
        original = SAMPLES / "originals" / f"{fake.stem.partition('_with_')[0]}.jpg"
        (scan,) = scanner.scan([original.read_bytes()])
        (face,) = scan.faces
        pair = (pixels_of(path) for path in (fake, original))
        swapped, whole = (square_crop(image, face.box, scanner.card.margin, len(ramp)) for image in pair)
        mixed += [(keep * swapped + (1 - keep) * whole).round().astype(np.uint8) for keep in keeps]
    _, evidence = run_in_batches(scanner._classifier, mixed, 32)
    louder = []
    for number, one in enumerate(evidence):
        heat, forged = spread(one, len(ramp)), keeps[number % 4][..., 0] > 0.5
        louder.append(heat[forged].mean() > heat[~forged].mean())
    assert len(louder) == 28
    assert sum(louder) >= 25


def test_a_score_is_given_for_each_way_of_saving_once_more(scanner: Scanner) -> None:
    _, (why,) = explained(scanner, FAKE.read_bytes())
    assert tuple(name for name, _ in why.stability) == WAYS
    scores = [score for _, score in why.stability]
    assert all(0 <= score <= 1 for score in scores)
    assert len({why.score, *scores}) == len(WAYS) + 1


def test_boxes_of_the_original_are_found_in_its_smaller_view(scanner: Scanner) -> None:
    scan, (original,) = explained(scanner, FAKE.read_bytes())
    assert scan.view is not None
    assert scan.image is not None
    assert scan.image.width > VIEW
    whys = scanner.explain(scan.view, [scan.faces[0].box], scan.image.width)
    assert isinstance(whys, list)
    for side in ("left", "top", "side"):
        assert getattr(whys[0], side) == pytest.approx(getattr(original, side), abs=scan.image.width / VIEW)
    small, large = (np.asarray(Image.open(io.BytesIO(why.crop)), int) for why in (whys[0], original))
    assert np.abs(small - large).mean() < 15


def test_a_face_at_the_border_and_a_very_large_one_are_explained(scanner: Scanner) -> None:
    photo = np.asarray(Image.open(FAKE).convert("RGB").resize((2 * LARGEST, 2 * LARGEST)))
    boxes = [Box(0.0, 0.0, 2.0 * LARGEST, 2.0 * LARGEST), Box(-30.5, 1990.0, 90.0, 80.0), Box(5.0, 5.0, 1.0, 1.0)]
    whys = explain(scanner._classifier, photo, boxes, photo.shape[1], batch=4)
    assert [(why.left, why.side) for why in whys[1:]] == [(-30, 90), (5, 1)]
    assert all(len(why.stability) == len(WAYS) for why in whys)


def test_an_image_that_cannot_be_read_is_an_error_and_no_box_is_no_answer(scanner: Scanner) -> None:
    broken = scanner.explain(FAKE.read_bytes()[:3000], [Box(0, 0, 9, 9)], 100)
    assert isinstance(broken, ScanError)
    assert broken.code == ErrorCode.TRUNCATED
    assert scanner.explain(encode_view(pixels_of(COLLINS), 50), [], 100) == []


def test_the_card_names_an_onnx_file_that_gives_the_evidence(scanner: Scanner) -> None:
    card = load_card(CLASSIFIER)
    pixels = np.random.default_rng(3).integers(0, 256, (3, card.input_size, card.input_size, 3), np.uint8)
    logits, evidence = scanner._classifier.run(pixels)
    assert evidence.shape == (3, 2, card.input_size // 32, card.input_size // 32)
    np.testing.assert_allclose(evidence.mean(axis=(1, 2, 3)), logits[:, 0], atol=1e-5)
