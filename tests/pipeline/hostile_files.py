"""The files of hostile_images.zip in the data folder: from the public test suites of image decoders."""

import zipfile
from pathlib import Path

COUNT = 3038


def read_hostile(data_folder: Path) -> dict[str, bytes]:
    """The content of every file, by its name."""
    with zipfile.ZipFile(data_folder / "hostile_images.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}
