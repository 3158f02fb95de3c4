"""Where a photo was taken, and by whom, stays in the photo: no row, no log and no picture that is shown tells it."""

import io
import logging
import re

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from api.app import create_app
from pipeline.scan import Scanner, ScannerSettings
from shield import accounts
from shield.models.base import Base
from shield.queue import MemoryQueue
from tests.pipeline.photos import HOPPER, encoded
from tests.worker.conftest import House
from worker.app import register

SECRET = "51.4779N 0.0015W Greenwich, by Ada"
LATITUDE = (51.0, 28.0, 40.4375)
XMP = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><exif:GPSLatitude>{SECRET}</exif:GPSLatitude></x:xmpmeta>".encode()
TOLD = re.compile(rb"exif|gps|xmp|iptc|photoshop|adobe|greenwich|51\.4779|\bada\b", re.IGNORECASE)


def exif() -> Image.Exif:
    """What a camera with a GPS receiver writes."""
    found = Image.Exif()
    found[ExifTags.Base.ImageDescription] = SECRET
    found[ExifTags.Base.Artist] = SECRET
    found[ExifTags.Base.Orientation] = 3
    place = found.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "N"
    place[ExifTags.GPS.GPSLatitude] = LATITUDE
    place[ExifTags.GPS.GPSAreaInformation] = SECRET.encode()
    return found


def iptc(jpeg: bytes) -> bytes:
    """The JPEG with Photoshop's segment behind its start, which names a city."""
    record = b"\x1c\x02\x5a" + len(SECRET).to_bytes(2, "big") + SECRET.encode()
    body = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(record).to_bytes(4, "big") + record
    return jpeg[:2] + b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def photos() -> list[bytes]:
    """One real photo with its place in every way that a file may hold it, whole and then damaged."""
    with Image.open(HOPPER) as photo:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("Location", SECRET)
        jpeg = iptc(encoded(photo, "JPEG", exif=exif(), xmp=XMP, comment=SECRET.encode(), quality=90))
        png = encoded(photo, "PNG", exif=exif(), pnginfo=text)
        webp = encoded(photo, "WEBP", exif=exif(), xmp=XMP)
    whole = [jpeg, png, webp]
    assert all(SECRET.encode() in content for content in whole)
    cut = [content[: len(content) // 2] for content in whole]
    return [*whole, *cut, png.replace(b"IDAT", b"Ada!")]


def segments(jpeg: bytes) -> set[int]:
    """The markers of a JPEG ahead of its pixels."""
    found, at = set(), 2
    while jpeg[at + 1] != 0xDA:
        found.add(jpeg[at + 1])
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return found


def test_no_place_and_no_name_from_a_photo_reaches_rows_logs_or_views(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    job = house.submit(*photos(), chunk_items=8)
    caplog.clear()  # of Pillow's words about the photos that it has just made here
    caplog.set_level(logging.DEBUG)
    with Scanner(ScannerSettings(view_side=1024)) as scanner:
        register(house.database, scanner.card)
        assert house.scanning(scanner, max_image_bytes=10**7).scan_ready()
    assert [item.state for item in house.items(job)] == ["done"] * 3 + ["failed"] * 4

    with house.database.read() as session:
        rows = [repr(row) for table in Base.metadata.sorted_tables for row in session.execute(table.select())]
    assert len(rows) > 10
    assert [row for row in rows if TOLD.search(row.encode())] == []
    assert not TOLD.search(caplog.text.encode())

    with house.database.write() as session:
        key = accounts.create_key(session, house.account_id)
    app = create_app(house.config, MemoryQueue())
    for item in house.items(job)[:3]:
        answer = app.test_client().get(f"/v1/items/{item.id}/view", headers={"Authorization": f"Bearer {key}"})
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert not TOLD.search(answer.data)
        assert segments(answer.data) <= {0xE0, 0xDB, 0xC0, 0xC4}  # JFIF, and what decoding needs
        with Image.open(io.BytesIO(answer.data)) as view:
            assert set(view.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    app.extensions["shield"].database.close()
