"""Zip archives from strangers, read member by member: nothing is unpacked to a path, and nothing is held in memory.

The standard library's reader holds every member's entry at once, cuts a name at its first NUL and takes members that
overlap, so the directory is read here: an entry at a time, from its offset, which is also where a reader goes on.
Formats: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import io
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from shield.errors import NotAZip, UnsafeZip, ZipBomb
from shield.streams import stream_of

STORED, DEFLATED = 0, 8
UTF8_FLAG = 0x0800
ENCRYPTED_FLAGS = 0x0001 | 0x0040 | 0x2000
READ = 64 * 1024  # bytes taken from the archive at a time
NAME_LENGTH = 1024  # characters: a member's name becomes its item's custom_id
LARGE = 0xFFFF_FFFF  # "see the zip64 extra field"

END = struct.Struct("<4s4H2IH")  # signature, disks (2), counts (2), size and offset of the directory, comment's length
END64_LOCATOR = struct.Struct("<4sIQI")
END64 = struct.Struct("<4sQ2H2I4Q")
ENTRY = struct.Struct("<4s6H3I5H2I")
HEADER = struct.Struct("<4s5H3I2H")
MISPLACED = (
    "the zip's directory does not lie where its end says: send the zip whole, and alone where something lies before it,"
    " such as a program that unpacks it"
)
DRIVE = re.compile(r"[A-Za-z]:")


class DamagedMember(Exception):
    """A member does not unpack to what the directory says of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may ask of us: members, bytes of all of them unpacked, and those for a byte of the archive."""

    members: int
    unpacked_bytes: int
    ratio: int


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the directory, and the offset of the entry after it."""

    name: str
    mode: int  # Unix type and permissions; 0 where none are told
    encrypted: bool
    method: int
    crc: int
    packed: int
    unpacked: int
    header: int
    next: int

    @property
    def is_file(self) -> bool:
        """Whether there is anything to unpack: folders and entries without a name are passed over."""
        return bool(self.name) and not self.name.endswith("/")


class Archive:
    """A zip in a stream that can seek. Raises NotAZip where it is none."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = stream.seek(0, io.SEEK_END)
        self.count, self.start, self.end = self._directory()

    def members(self, offset: int | None = None) -> Iterator[Member]:
        """The members from the entry at this offset on; from the first by default. Raises NotAZip, UnsafeZip."""
        at = self.start if offset is None else offset
        while at < self.end:
            member = self._member(at)
            yield member
            at = member.next

    def open(self, member: Member) -> BinaryIO:
        """The unpacked bytes of a member, as a stream that raises DamagedMember where they differ from its entry."""
        return stream_of(self._pieces(member))

    def _read(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(size)

    def _directory(self) -> tuple[int, int, int]:
        """How many members there are; where their entries begin and end."""
        tail_at = max(0, self.size - END.size - 0xFFFF)
        tail = self._read(tail_at, self.size - tail_at)
        at = _end_in(tail)
        _, disk, first_disk, _, count, size, offset, _ = END.unpack_from(tail, at)
        limit = tail_at + at
        if limit >= END64_LOCATOR.size:
            locator = END64_LOCATOR.unpack(self._read(limit - END64_LOCATOR.size, END64_LOCATOR.size))
            if locator[0] == b"PK\6\7":
                limit = locator[2]
                disk, first_disk, count, size, offset = self._directory64(limit)
        if disk or first_disk:
            raise NotAZip("the zip is one part of several: send it as one file")
        if offset + size > limit or (size and self._read(offset, 4) != b"PK\1\2"):
            raise NotAZip(MISPLACED)
        return count, offset, offset + size

    def _directory64(self, at: int) -> tuple[int, int, int, int, int]:
        record = self._read(at, END64.size)
        if len(record) < END64.size or record[:4] != b"PK\6\6":
            raise NotAZip(MISPLACED)
        _, _, _, _, disk, first_disk, _, count, size, offset = END64.unpack(record)
        return disk, first_disk, count, size, offset

    def _member(self, at: int) -> Member:
        fixed = self._read(at, ENTRY.size)
        if len(fixed) < ENTRY.size or fixed[:4] != b"PK\1\2":
            raise NotAZip("the zip's directory is damaged: send it again, whole")
        _, _, _, flags, method, _, _, crc, packed, unpacked, *rest = ENTRY.unpack(fixed)
        name_size, extra_size, comment_size, _, _, attributes, header = rest
        following = at + ENTRY.size + name_size + extra_size + comment_size
        if following > self.end:
            raise NotAZip("the zip's directory is damaged: send it again, whole")
        text = self._stream.read(name_size + extra_size)
        if LARGE in (packed, unpacked, header):
            unpacked, packed, header = _from_extra64(text[name_size:], unpacked, packed, header)
        name = _decoded(text[:name_size], bool(flags & UTF8_FLAG))
        encrypted = bool(flags & ENCRYPTED_FLAGS)
        return Member(name, attributes >> 16, encrypted, method, crc, packed, unpacked, header, following)

    def _pieces(self, member: Member) -> Iterator[bytes]:
        """The unpacked bytes, in pieces of bounded size: never more than the entry declares."""
        header = self._read(member.header, HEADER.size)
        if len(header) < HEADER.size or header[:4] != b"PK\3\4":
            raise DamagedMember("there is no member where the zip's directory says")
        *_, name_size, extra_size = HEADER.unpack(header)
        at = member.header + HEADER.size + name_size + extra_size
        end = at + member.packed
        inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None
        size, crc = 0, 0
        while at < end:
            packed = self._read(at, min(READ, end - at))
            if not packed:
                raise DamagedMember("the zip ends inside this member")
            at += len(packed)
            for piece in _inflated(inflater, packed) if inflater else (packed,):
                size, crc = size + len(piece), zlib.crc32(piece, crc)
                if size > member.unpacked:
                    raise DamagedMember(f"it unpacks to more than the {member.unpacked} bytes that the zip declares")
                yield piece
        if size != member.unpacked or crc != member.crc:
            raise DamagedMember("it does not unpack to the bytes that the zip declares")


def check(archive: Archive, limits: Limits) -> int:
    """Read the whole directory before the archive is accepted; how many files there are to unpack.

    Raises ZipBomb over a limit or where members overlap, UnsafeZip for a name that is a way out or no plain file, and
    NotAZip for what cannot be read: damage, encryption, a packing other than deflate.
    """
    count, files, unpacked, room = 0, 0, 0, archive.start
    for member in archive.members():
        count += 1
        if count > limits.members:
            raise ZipBomb(f"the zip holds more than {limits.members} members: split it into more jobs")
        _check_member(member, archive.start)
        files += member.is_file
        unpacked += member.unpacked
        room -= HEADER.size + len(member.name) + member.packed
        if room < 0:
            raise ZipBomb("the members of the zip overlap: pack it anew")
        if unpacked > limits.unpacked_bytes:
            raise ZipBomb(f"the zip unpacks to more than {limits.unpacked_bytes} bytes: split it into more jobs")
    if unpacked > limits.ratio * archive.size:
        raise ZipBomb(f"the zip unpacks to {unpacked} bytes, more than {limits.ratio} for each byte of its own")
    if count != archive.count:
        raise NotAZip(f"the zip's directory holds {count} members and its end says {archive.count}: pack it anew")
    return files


def _check_member(member: Member, end: int) -> None:
    shown = repr(member.name[:200])
    fault = _fault_of(member.name)
    kind = stat.S_IFMT(member.mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "is a symbolic link" if kind == stat.S_IFLNK else "is no plain file"
    if fault is not None:
        raise UnsafeZip(f"the member {shown} {fault}: nothing of this zip was accepted")
    if member.encrypted:
        raise NotAZip(f"the member {shown} is encrypted: pack it without a password")
    if member.is_file and member.method not in (STORED, DEFLATED):
        raise NotAZip(f"the member {shown} is packed by method {member.method}: use deflate or no compression")
    if member.header + HEADER.size + member.packed > end:
        raise NotAZip(f"the member {shown} lies outside the zip: send it again, whole")


def _fault_of(name: str) -> str | None:
    """Why a name must not be; None for a plain relative one."""
    faults = {
        f"has a name of more than {NAME_LENGTH} characters": len(name) > NAME_LENGTH,
        "has a NUL in its name": "\0" in name,
        "has a backslash in its name": "\\" in name,
        "has an absolute name": name.startswith("/"),
        "has a drive in its name": DRIVE.match(name),
        "leads out of its folder": ".." in name.split("/"),
    }
    return next((fault for fault, found in faults.items() if found), None)


def _end_in(tail: bytes) -> int:
    """Where the record begins that ends the zip, and this tail of it: what looks like one in its comment is none."""
    at = found = tail.rfind(b"PK\5\6")
    while at >= 0:
        if len(tail) - at >= END.size and at + END.size + END.unpack_from(tail, at)[-1] == len(tail):
            return at
        at = tail.rfind(b"PK\5\6", 0, at)
    if found < 0:
        raise NotAZip("the body is not a zip: it has no directory at its end")
    raise NotAZip("the body is not a zip: something follows its end, or its end is cut off")


def _decoded(name: bytes, says_utf8: bool) -> str:
    """A name as text. Many programs write UTF-8 and do not say so; what is none is of the old code page."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        if says_utf8:
            raise UnsafeZip(f"the member {name[:200]!r} has a name that is not the UTF-8 that it says it is") from None
        return name.decode("cp437")


def _from_extra64(extra: bytes, *sizes: int) -> tuple[int, int, int]:
    """Unpacked size, packed size and header's offset, those that did not fit taken from the zip64 extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + size]
            large = iter(value for (value,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8]))
            found = [next(large, LARGE) if given == LARGE else given for given in sizes]
            return found[0], found[1], found[2]
        at += 4 + size
    raise NotAZip("the zip's directory is damaged: a 64-bit size is missing")


def _inflated(inflater: "zlib._Decompress", packed: bytes) -> Iterator[bytes]:
    """What these packed bytes unpack to, at most READ bytes at a time."""
    piece = b""
    try:
        while (packed or len(piece) == READ) and not inflater.eof:  # a full piece may leave some behind, without input
            piece = inflater.decompress(packed, READ)
            packed = inflater.unconsumed_tail
            yield piece
    except zlib.error as error:
        raise DamagedMember(f"it does not unpack: {error}") from error
