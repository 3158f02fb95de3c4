"""`prepare` on a data folder of sample photos, shaped like the real one."""

import csv
import zipfile
from argparse import Namespace
from pathlib import Path

import cv2
import pytest

from training.data import decode_rgb
from training.facecrops import faces_of, open_detector
from training.prepare import crop_landmarks, main

SAMPLES = Path(__file__).parents[2] / "samples"


def rows_of(manifest: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(manifest.read_text().splitlines()))


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    with zipfile.ZipFile(folder / "ffhq_stylegan_256.zip", "w") as archive:
        archive.write(SAMPLES / "originals" / "collins.jpg", "real/1.jpg")
        archive.write(SAMPLES / "fakes" / "collins_with_barkla.jpg", "fake/1.jpg")
    with zipfile.ZipFile(folder / "face_boxes.zip", "w") as archive:
        archive.write(SAMPLES / "group.jpg", "group.jpg")
    photo = decode_rgb((SAMPLES / "originals" / "curie.jpg").read_bytes(), "curie.jpg")
    face = faces_of(open_detector(), photo, margin=0.0)[0].crop
    with zipfile.ZipFile(folder / "dfdc_faces_224.zip", "w") as archive:
        archive.writestr("a.jpg", cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR))[1].tobytes())
    (folder / "dfdc_faces_224.csv").write_text("file,label,group,split,source_width\na.jpg,real,a,train,150\n")
    monkeypatch.setenv("SHIELD_DATA", str(folder))
    return folder


def test_every_source_gets_a_manifest_with_landmarks(data_folder: Path, tmp_path: Path) -> None:
    assert data_folder.is_dir()
    out = tmp_path / "out"
    assert main(Namespace(out=out)) == 0
    dfdc, ffhq, street = (rows_of(out / f"{name}.csv") for name in ("dfdc", "ffhq", "street"))
    assert [row["label"] for row in ffhq] == ["fake", "real"]
    assert len(street) == 6
    assert len({row["group"] for row in street}) == 1
    for row in (*dfdc, *ffhq, *street):
        points = [float(x) for x in row["landmarks"].split()]
        assert len(points) == 12
        right_eye, left_eye, mouth = points[0:2], points[2:4], points[6:8]
        assert 0 < right_eye[0] < left_eye[0] < 1
        assert 0 < right_eye[1] < mouth[1] < 1


def test_a_crop_without_a_face_has_no_landmarks() -> None:
    landscape = decode_rgb((SAMPLES / "landscape.jpg").read_bytes(), "landscape.jpg")[:224, :224]
    assert crop_landmarks(open_detector(), landscape) == ()


def test_a_folder_without_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHIELD_DATA", str(tmp_path / "nothing"))
    assert main(Namespace(out=tmp_path / "out")) == 2
    assert "nothing" in capsys.readouterr().err
