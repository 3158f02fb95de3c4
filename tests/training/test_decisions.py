"""Importing moderators' decisions: an export beside its crops, and a manifest whose pictures are held out."""

import json
from argparse import ArgumentParser
from pathlib import Path

import cv2
import pytest

from training.data import read_manifest
from training.decisions import add_arguments, main


def crop(number: int, upheld: bool, **more: object) -> str:
    return json.dumps({"file": f"{number}.png", "decision": "upheld" if upheld else "overturned", **more})


def run(manifest: Path, *lines: str) -> tuple[int, Path]:
    """Import these lines; what `manifest` has outside `train` (crops 16 to 23) is held out."""
    export = manifest.with_name("export.jsonl")
    export.write_text("\n".join(lines) + "\n", encoding="utf-8")
    parser = ArgumentParser()
    add_arguments(parser)
    crops = str(manifest.with_suffix(""))
    out = manifest.with_name("imported.csv")
    words = [str(export), "--root", crops, "--out", str(out), "--held-out", str(manifest), crops]
    return main(parser.parse_args(words)), out


def test_good_lines_become_training_rows(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(manifest, crop(0, upheld=False), "", crop(1, upheld=True, custom_id="post 7", case="c1"))
    assert code == 0
    assert f"1 real, 1 fake in {out}; 0 lines refused" in capsys.readouterr().out
    taken = read_manifest(out)
    assert [(e.file, e.label, e.group, e.split, e.source) for e in taken] == [
        ("0.png", 0, "0.png", "train", "decisions"),
        ("1.png", 1, "post 7", "train", "decisions"),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "no file named"),
        ('{"decision": "upheld"}', "no file named"),
        ('{"file": 3, "decision": "upheld"}', "no file named"),
        ('{"file": "2.png"}', "decision None is neither upheld nor overturned"),
        ('{"file": "2.png", "decision": ["upheld"]}', "neither upheld nor overturned"),
        ('{"file": "absent.png", "decision": "upheld"}', "absent.png cannot be read"),
        ('{"file": "a\\u0000b.png", "decision": "upheld"}', "cannot be read"),
        ('{"file": "../crops.csv", "decision": "upheld"}', "leads outside the root"),
        ('{"file": "/etc/passwd", "decision": "upheld"}', "leads outside the root"),
        ('{"file": "torn.png", "decision": "upheld"}', "torn.png is not a picture"),
    ],
)
def test_a_bad_line_is_reported_by_its_number_and_the_rest_is_taken(
    manifest: Path, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (manifest.with_suffix("") / "torn.png").write_bytes(b"\x89PNG")
    code, out = run(manifest, crop(0, upheld=False), line, crop(1, upheld=True))
    assert code == 1
    said = capsys.readouterr()
    reasons = [line for line in said.err.splitlines() if "export.jsonl:" in line]
    assert len(reasons) == 1
    assert "export.jsonl:2: " in reasons[0]
    assert says in reasons[0]
    assert "1 lines refused" in said.out
    assert [example.file for example in read_manifest(out)] == ["0.png", "1.png"]


def test_what_is_held_out_is_refused_compressed_again_too(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = manifest.with_suffix("")
    held = cv2.imread(str(folder / "20.png"))
    cv2.imwrite(str(folder / "seen.jpg"), held, [cv2.IMWRITE_JPEG_QUALITY, 90])
    line = json.dumps({"file": "seen.jpg", "decision": "upheld"})
    code, out = run(manifest, crop(19, upheld=True), line, crop(1, upheld=True))
    assert code == 1
    said = capsys.readouterr().err
    assert "export.jsonl:1: 19.png nearly equals a held-out picture" in said
    assert "export.jsonl:2: seen.jpg nearly equals a held-out picture" in said
    assert [example.file for example in read_manifest(out)] == ["1.png"]


def test_a_picture_decided_both_ways_is_left_out_whole(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = manifest.with_suffix("")
    (folder / "copy.png").write_bytes((folder / "2.png").read_bytes())
    other = json.dumps({"file": "copy.png", "decision": "overturned"})
    code, out = run(manifest, crop(2, upheld=True), other, crop(3, upheld=True))
    assert code == 1
    said = capsys.readouterr().err
    assert "export.jsonl:1: 2.png was decided both ways" in said
    assert "export.jsonl:2: copy.png was decided both ways" in said
    assert [example.file for example in read_manifest(out)] == ["3.png"]


def test_a_repetition_is_taken_once(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(manifest, crop(2, upheld=True), crop(2, upheld=True, case="again"))
    assert code == 1
    assert "export.jsonl:2: 2.png stands in the export already" in capsys.readouterr().err
    assert [example.file for example in read_manifest(out)] == ["2.png"]


@pytest.mark.parametrize("lines", [[""], ["not JSON"], [crop(20, upheld=True)]])
def test_with_nothing_usable_nothing_is_written(
    manifest: Path, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(manifest, *lines)
    assert code == 2
    assert not out.exists()
    assert "no line can be used" in capsys.readouterr().err


def test_without_anything_held_out_the_import_is_refused(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in manifest.read_text().splitlines() if not row.endswith("val")]
    manifest.write_text("\n".join(rows) + "\n")
    code, out = run(manifest, crop(0, upheld=False))
    assert code == 2
    assert not out.exists()
    assert "holds nothing out" in capsys.readouterr().err


def test_by_default_what_prepare_wrote_is_held_out(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(manifest.parent)
    parser = ArgumentParser()
    add_arguments(parser)
    Path("export.jsonl").write_text(crop(0, upheld=False))
    assert main(parser.parse_args(["export.jsonl"])) == 2
    assert "var/data/dfdc.csv cannot be read" in capsys.readouterr().err
