"""Archives: a directory that is read as it lies, members that unpack to what it says, every hostile kind refused."""

import io
import random
import zipfile

import pytest

from shield.archive import Archive, DamagedMember, Limits, check
from shield.errors import InvalidSubmission, NotAZip, ZipBomb
from tests import zips

LIMITS = Limits(members=100, unpacked_bytes=10_000_000, ratio=100)


def archive(content: bytes) -> Archive:
    return Archive(io.BytesIO(content))


def unpacked(content: bytes) -> list[tuple[str, bytes]]:
    there = archive(content)
    return [(member.name, there.open(member).read()) for member in there.members() if member.is_file]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_unpack_to_the_bytes_that_were_packed(method: int) -> None:
    noise = random.Random(4).randbytes(300_000)
    members = [("a.jpg", noise), ("folder/", b""), ("empty.jpg", b""), ("folder/über.jpg", b"flat" * 100_000)]
    content = zips.zip_of(*members, method=method)
    assert check(archive(content), LIMITS) == 3
    assert unpacked(content) == [member for member in members if not member[0].endswith("/")]


def test_a_zip_with_64_bit_sizes_is_read() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made, made.open("a.jpg", "w", force_zip64=True) as file:
        file.write(b"photo")
    assert check(Archive(content), LIMITS) == 1
    assert unpacked(content.getvalue()) == [("a.jpg", b"photo")]


def test_a_zip_of_more_members_than_16_bits_count_is_read_a_member_at_a_time() -> None:
    content = zips.zip_of(*((f"{n}.jpg", b"") for n in range(65_537)), method=zipfile.ZIP_STORED)
    there = archive(content)
    assert there.count == 65_537
    assert check(there, Limits(100_000, 1000, 100)) == 65_537
    *_, last = there.members()
    assert last.name == "65536.jpg"
    with pytest.raises(ZipBomb, match="more than 65536 members"):
        check(there, Limits(65_536, 1000, 100))


@pytest.mark.parametrize("members", [2, 65_537])
def test_a_zip_behind_a_program_is_said_to_be_not_alone(members: int) -> None:
    content = b"program" + zips.zip_of(*((f"{n}.jpg", b"") for n in range(members)), method=zipfile.ZIP_STORED)
    with pytest.raises(NotAZip, match="alone where something lies before it"):
        archive(content)


def test_a_zip_behind_a_program_that_its_offsets_count_is_read() -> None:
    content = io.BytesIO(b"program")
    with zipfile.ZipFile(content, "a") as made:
        made.writestr("a.jpg", b"photo")
    assert check(Archive(content), LIMITS) == 1
    assert unpacked(content.getvalue()) == [("a.jpg", b"photo")]


def test_a_comment_that_looks_like_an_end_is_none() -> None:
    content = io.BytesIO(zips.zip_of(("a.jpg", b"photo")))
    with zipfile.ZipFile(content, "a") as made:
        made.comment = b"packed " + zips.END + b" by us " + zips.END
    assert check(archive(content.getvalue()), LIMITS) == 1
    assert unpacked(content.getvalue()) == [("a.jpg", b"photo")]


def test_members_are_gone_on_with_from_any_entry() -> None:
    content = zips.zip_of(*((f"{n}.jpg", b"x") for n in range(5)))
    first = next(archive(content).members())
    assert [member.name for member in archive(content).members(first.next)] == [f"{n}.jpg" for n in range(1, 5)]


def test_a_name_of_the_old_code_page_and_one_of_unsaid_utf8_are_both_read() -> None:
    content = zips.zip_of(("aaaa.jpg", b"x"))
    assert unpacked(content.replace(b"aaaa", "üü".encode()))[0][0] == "üü.jpg"
    assert unpacked(content.replace(b"aaaa", b"\x81\x81\x81\x81"))[0][0] == "üüüü.jpg"


@pytest.mark.parametrize("kind", zips.HOSTILE)
def test_a_hostile_zip_is_refused_by_its_kind(kind: str) -> None:
    content, code = zips.HOSTILE[kind]
    with pytest.raises(InvalidSubmission) as refused:
        check(archive(content), LIMITS)
    assert refused.value.code == code


def test_an_unsafe_member_is_named() -> None:
    with pytest.raises(InvalidSubmission, match=r"'\.\./x\.jpg' leads out of its folder"):
        check(archive(zips.zip_of(("../x.jpg", b"x"))), LIMITS)


def test_a_zip_that_unpacks_to_more_bytes_than_the_limit_is_refused() -> None:
    content = zips.zip_of(("a.jpg", b"a" * 600), ("b.jpg", b"b" * 600), method=zipfile.ZIP_STORED)
    assert check(archive(content), Limits(10, 1200, 100)) == 2
    with pytest.raises(ZipBomb, match="more than 1199 bytes"):
        check(archive(content), Limits(10, 1199, 100))


@pytest.mark.parametrize(
    ("declared", "why"), [(10, "more than the 10 bytes"), (600_000, "not unpack to the bytes that the zip declares")]
)
def test_a_member_that_lies_about_its_size_is_cut_off_there(declared: int, why: str) -> None:
    there = archive(zips.patched(zips.zip_of(("a.jpg", bytes(500_000))), zips.UNPACKED, declared))
    with pytest.raises(DamagedMember, match=why):
        there.open(next(there.members())).read()


def test_a_member_with_a_flipped_bit_is_damaged() -> None:
    content = zips.zip_of(("a.jpg", b"photo"), method=zipfile.ZIP_STORED).replace(b"photo", b"phoTo")
    with pytest.raises(DamagedMember):
        unpacked(content)


def test_a_member_whose_packed_bytes_are_noise_is_damaged() -> None:
    content = zips.patched(zips.zip_of(("a.jpg", b"\xff" * 40), method=zipfile.ZIP_STORED), zips.METHOD, 8)
    with pytest.raises(DamagedMember, match="does not unpack"):
        unpacked(content)


def test_a_member_that_is_not_where_the_directory_says_is_damaged() -> None:
    content = zips.patched(zips.zip_of(("a.jpg", b"x" * 50), ("b.jpg", b"y")), zips.HEADER, 3)
    with pytest.raises(DamagedMember, match="no member"):
        unpacked(content)


def test_bytes_of_a_mutated_zip_never_lead_to_another_error() -> None:
    rng = random.Random(7)
    good = zips.zip_of(("a.jpg", b"photo" * 30), ("b/c.jpg", bytes(range(256))))
    for _ in range(2000):
        content = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            there = archive(bytes(content))
            check(there, LIMITS)
            for member in there.members():
                if member.is_file:
                    assert len(there.open(member).read()) <= LIMITS.unpacked_bytes
        except (InvalidSubmission, DamagedMember):
            pass


def test_what_only_looks_like_the_end_of_a_zip_is_none() -> None:
    with pytest.raises(NotAZip):
        archive(b"PK\5\6")
