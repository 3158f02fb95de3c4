from argparse import Namespace
from pathlib import Path

import pytest

from training.check import main


def check(manifest: Path, root: Path | None = None) -> int:
    return main(Namespace(manifest=manifest, root=root or manifest.with_suffix("")))


def test_sound_data_has_no_findings(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(manifest) == 0
    assert capsys.readouterr().out == f"{manifest}: 0 findings\n"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("absent.png,real,new,train", ":26: absent.png cannot be read"),
        ("../crops/1.png,fake,new,train", ":26: ../crops/1.png leads outside the root"),
        ("/etc/passwd,fake,new,train", ":26: /etc/passwd leads outside the root"),
        ("torn.png,real,new,train", ":26: torn.png is not a picture that can be read"),
        ("3.png,genuine,new,train", ":26: label 'genuine' is neither real nor fake"),
        ("3.png,fake,new,dev", ":26: split 'dev' is none of train, val, test"),
        ("new.png,fake,group 3,test", ":26: group group 3 stands in two splits"),
        ("again.png,fake,new,test", ":5: 3.png of train has the same bytes as again.png of test"),
        ("compressed.jpg,fake,new,val", ":5: 3.png of train nearly equals"),
    ],
)
def test_each_finding_names_its_row(manifest: Path, row: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    folder = manifest.with_suffix("")
    third = cv2.imread(str(folder / "3.png"))
    (folder / "torn.png").write_bytes((folder / "3.png").read_bytes()[:60])
    (folder / "again.png").write_bytes((folder / "3.png").read_bytes())
    cv2.imwrite(str(folder / "compressed.jpg"), third, [cv2.IMWRITE_JPEG_QUALITY, 95])
    cv2.imwrite(str(folder / "new.png"), third[::-1])
    manifest.write_text(manifest.read_text() + row + "\n")
    assert check(manifest) == 1
    said = capsys.readouterr().out.splitlines()
    assert says in said[0]
    assert said[1:] == [f"{manifest}: 1 findings"]


def test_a_source_under_one_label_is_found(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in manifest.read_text().splitlines() if ",fake," not in line]
    manifest.write_text("\n".join(lines) + "\n")
    assert check(manifest) == 1
    assert "source crops has no fakes" in capsys.readouterr().out


def test_without_rows_there_is_a_finding(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text("file,label\n")
    assert check(manifest) == 1
    assert "has no rows" in capsys.readouterr().out


def test_a_missing_root_is_refused(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(manifest, tmp_path / "nowhere") == 2
    assert "neither a folder nor a zip" in capsys.readouterr().err
