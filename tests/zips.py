"""Zips, honest and hostile: made with the standard library, then patched in the bytes of their directory."""

import io
import stat
import struct
import zipfile

ENTRY = b"PK\1\2"
END = b"PK\5\6"
FLAGS, METHOD, PACKED, UNPACKED, HEADER = (
    (8, "<H"),
    (10, "<H"),
    (20, "<I"),
    (24, "<I"),
    (42, "<I"),
)  # places in an entry
Field = tuple[int, str]


def zip_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = stat.S_IFREG | 0o644) -> bytes:
    """A zip of these members, whatever their names hold."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in members:
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor would cut it at a NUL
            info.external_attr = mode << 16
            info.compress_type = method
            archive.writestr(info, data)
    return content.getvalue()


def patched(content: bytes, field: Field, value: int, member: int = 0) -> bytes:
    """The zip with another value in one field of one member's entry."""
    at = -1
    for _ in range(member + 1):
        at = content.index(ENTRY, at + 1)
    offset, form = field
    packed = struct.pack(form, value)
    return content[: at + offset] + packed + content[at + offset + len(packed) :]


def overlapping(name: str, data: bytes, times: int) -> bytes:
    """A zip whose directory names one and the same packed member many times."""
    one = zip_of((name, data))
    start, end = one.index(ENTRY), one.index(END)
    entries = one[start:end] * times
    closing = struct.pack("<4s4H2IH", END, 0, 0, times, times, len(entries), start, 0)
    return one[:start] + entries + closing


SYMLINK = stat.S_IFLNK | 0o777
HOSTILE: dict[str, tuple[bytes, str]] = {
    "traversal": (zip_of(("a.jpg", b"a"), ("../../etc/x.jpg", b"x")), "unsafe_zip"),
    "traversal inside": (zip_of(("a/../../x.jpg", b"x")), "unsafe_zip"),
    "absolute": (zip_of(("/etc/x.jpg", b"x")), "unsafe_zip"),
    "backslash": (zip_of(("..\\x.jpg", b"x")), "unsafe_zip"),
    "drive": (zip_of(("C:x.jpg", b"x")), "unsafe_zip"),
    "NUL": (zip_of(("x.jpg\0.exe", b"x")), "unsafe_zip"),
    "symlink": (zip_of(("x.jpg", b"/etc/passwd"), mode=SYMLINK), "unsafe_zip"),
    "device": (zip_of(("x.jpg", b""), mode=stat.S_IFCHR | 0o666), "unsafe_zip"),
    "long name": (zip_of(("x" * 1025, b"x")), "unsafe_zip"),
    "not the UTF-8 it says": (
        zip_of(("\u00e9\u00e9.jpg", b"x")).replace("\u00e9\u00e9.jpg".encode(), b"\xff\xff\xff\xff.jpg"),
        "unsafe_zip",
    ),
    "ratio": (zip_of(("x.jpg", bytes(1_000_000))), "zip_bomb"),
    "overlap": (overlapping("x.jpg", bytes(range(256)) * 40, 50), "zip_bomb"),
    "encrypted": (patched(zip_of(("x.jpg", b"x")), FLAGS, 1), "not_a_zip"),
    "bzip2": (zip_of(("x.jpg", b"x"), method=zipfile.ZIP_BZIP2), "not_a_zip"),
    "outside": (patched(zip_of(("x.jpg", b"x")), HEADER, 10_000), "not_a_zip"),
    "cut off": (zip_of(("x.jpg", b"x" * 100))[:-1], "not_a_zip"),
    "its end alone": (zip_of(("x.jpg", b"x"))[-22:], "not_a_zip"),
    "something before it": (b"MZ" + zip_of(("x.jpg", b"x")), "not_a_zip"),
    "something after it": (zip_of(("x.jpg", b"x")) + b"tail", "not_a_zip"),
    "directory damaged": (zip_of(("x.jpg", b"x")).replace(ENTRY, b"PK\1\3"), "not_a_zip"),
    "not a zip": (b"\xff\xd8\xff\xe0 a photo", "not_a_zip"),
    "nothing": (b"", "not_a_zip"),
}
