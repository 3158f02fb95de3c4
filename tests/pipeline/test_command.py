"""`python -m pipeline`: one JSON line per image, in order."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from tests.pipeline.photos import COLLINS, GROUP, LANDSCAPE, PROJECT


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_files_are_answered_in_order_and_a_bad_one_with_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    assert main([str(COLLINS), str(text), str(LANDSCAPE)]) == 0
    first, second, third = lines_of(capsys)
    assert [line["file"] for line in (first, second, third)] == [str(COLLINS), str(text), str(LANDSCAPE)]
    assert len(first["faces"]) == 1
    assert second["error"]["code"] == "not_an_image"
    assert third["score"] is None


def test_a_folder_gives_its_images_sorted_and_leaves_other_files_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deep").mkdir()
    shutil.copy(LANDSCAPE, tmp_path / "b.jpg")
    shutil.copy(LANDSCAPE, tmp_path / "deep" / "a.jpg")
    (tmp_path / "c.jpg").write_bytes(b"")
    (tmp_path / "README.md").write_text("not for scanning")
    assert main([str(tmp_path)]) == 0
    assert [Path(line["file"]).name for line in lines_of(capsys)] == ["b.jpg", "c.jpg", "a.jpg"]


def test_crops_skip_detection(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GROUP), str(LANDSCAPE), "--crops"]) == 0
    assert [len(line["faces"]) for line in lines_of(capsys)] == [1, 1]


def test_without_any_file_the_command_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.jpg")]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "absent.jpg: no such file or folder" in output.err


def test_a_path_that_is_missing_fails_the_command_though_the_others_are_scanned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(LANDSCAPE), "absent.jpg"]) == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1
    assert "absent.jpg: no such file" in told.err


def test_a_weights_card_that_is_missing_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(LANDSCAPE), "--classifier", "absent.json"]) == 2
    assert capsys.readouterr().err == "cannot go on: no weights card at absent.json\n"


def test_scanning_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; from pipeline.scan import Scanner; Scanner().close()"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True, timeout=60)
