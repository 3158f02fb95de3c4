import zipfile
from pathlib import Path

import pytest

from training.data import DataError, check_sources, decode_rgb, open_pictures, read_manifest, read_rgb


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_is_read_by_split(manifest: Path) -> None:
    assert len(read_manifest(manifest)) == 24
    val = read_manifest(manifest, "val")
    assert [example.file for example in val] == [f"{n}.png" for n in range(16, 24)]
    assert [example.label for example in val] == [0, 1] * 4
    assert {example.source for example in val} == {"crops"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,label\na.jpg,genuine\n", "m.csv:2: label 'genuine' is neither real nor fake"),
        ("file,label\na.jpg,real\n,fake\n", "m.csv:3: no file named"),
        ("path,label\na.jpg,real\n", "no file named; the columns needed are file,label"),
        ("file,label,group,split\na,real,g,train\nb,fake,g,test\n", "m.csv:3: group g stands in two splits"),
        ("file,label\n", "has no rows"),
        ("file,label\n../a.jpg,real\n", r"m.csv:2: \.\./a.jpg leads outside the root"),
        ("file,label\n/etc/a.jpg,real\n", "m.csv:2: /etc/a.jpg leads outside the root"),
        ("file,label,split\na.jpg,real,trian\n", "m.csv:2: split 'trian' is none of train, val, test"),
        ("file,label,source_width\na.jpg,real,wide\n", "m.csv:2: source_width or landmarks: .*'wide'"),
        ("file,label,landmarks\na.jpg,real,0.1 0.2\n", "m.csv:2: 2 landmark figures"),
    ],
)
def test_an_unusable_manifest_names_the_row(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_manifest(write(tmp_path / "m.csv", text))


def test_a_source_under_one_label_only_is_refused(manifest: Path) -> None:
    examples = read_manifest(manifest)
    check_sources(examples)
    with pytest.raises(DataError, match="source crops has no fakes"):
        check_sources([example for example in examples if example.label == 0])


def test_pictures_are_read_from_a_folder_and_from_a_zip_alike(manifest: Path, tmp_path: Path) -> None:
    folder = manifest.with_suffix("")
    with zipfile.ZipFile(tmp_path / "crops.zip", "w") as archive:
        archive.write(folder / "3.png", "3.png")
    content = open_pictures(folder).read("3.png")
    assert open_pictures(tmp_path / "crops.zip").read("3.png") == content
    assert decode_rgb(content, "3.png").shape == (64, 64, 3)


def test_a_name_never_leads_outside_its_root(manifest: Path) -> None:
    pictures = open_pictures(manifest.with_suffix(""))
    with pytest.raises(DataError, match="leads outside"):
        pictures.read("../crops.csv")
    with pytest.raises(DataError, match="cannot be read"):
        pictures.read("absent.png")


def test_what_is_no_picture_is_named() -> None:
    with pytest.raises(DataError, match=r"x\.jpg is not a picture"):
        decode_rgb(b"hello", "x.jpg")


def test_an_unreadable_picture_is_named_with_its_row(manifest: Path) -> None:
    folder = manifest.with_suffix("")
    (folder / "2.png").write_bytes(b"no picture")
    (folder / "3.png").unlink()
    examples, pictures = read_manifest(manifest), open_pictures(folder)
    assert read_rgb(examples[1], pictures).shape == (64, 64, 3)
    with pytest.raises(DataError, match=r"crops\.csv:4: 2\.png is not a picture"):
        read_rgb(examples[2], pictures)
    with pytest.raises(DataError, match=r"crops\.csv:5: 3\.png cannot be read"):
        read_rgb(examples[3], pictures)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"m\.csv is no CSV in UTF-8"):
        read_manifest(tmp_path / "m.csv")
