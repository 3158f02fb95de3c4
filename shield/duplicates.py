"""Near-duplicates: cases that were decided before, of pictures that look nearly the same.

Two hashes of 64 bits that differ by 7 at most agree in one of their four quarters to a bit (Norouzi, Punjani and Fleet,
"Fast Search in Hamming Space with Multi-Index Hashing", 2012). So a quarter of a decided case's hash is a row, and to
find its like takes 68 looks into an index, however many cases there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from shield.cases import JOB_IS_THERE, LOADED
from shield.models import Case, CasePiece

NEAR = 4  # bits of 64 by which two hashes differ at most; measured where the training data is searched for duplicates
PIECE = 16  # bits
LOOKED_AT = 1000  # candidates: pictures of one colour all look alike


@dataclass(frozen=True, slots=True)
class Near:
    """A decided case, and by how many bits its picture's hash differs."""

    case: Case
    distance: int


def near_duplicates(session: Session, account_id: str, case: Case, most: int = 12) -> list[Near]:
    """Decided cases that look nearly like this one, the most alike first; each with its item (faces, weights), job."""
    if case.image_hash is None:
        return []
    looks = int(case.image_hash, 16)
    alike = [piece ^ flip for piece in _pieces(looks) for flip in (0, *(1 << bit for bit in range(PIECE)))]
    found = select(CasePiece.case_id).where(CasePiece.account_id == account_id, CasePiece.piece.in_(alike))
    query = select(Case.id, Case.image_hash).where(Case.id.in_(found.distinct().limit(LOOKED_AT)), Case.id != case.id)
    near = [
        (distance, case_id)
        for case_id, image_hash in session.execute(query.where(Case.account_id == account_id, JOB_IS_THERE))
        if image_hash and (distance := (looks ^ int(image_hash, 16)).bit_count()) <= NEAR
    ]
    near = sorted(sorted(near, reverse=True), key=lambda found: found[0])[:most]  # of equals the newest first
    cases = select(Case).where(Case.id.in_([case_id for _, case_id in near])).options(*LOADED)
    by_id = {row.id: row for row in session.scalars(cases)}
    return [Near(by_id[case_id], distance) for distance, case_id in near if case_id in by_id]  # not purged meanwhile


def note(session: Session, account_id: str, case_ids: Sequence[str]) -> None:
    """Let these cases, which were just decided, be found."""
    hashes = session.execute(select(Case.id, Case.image_hash).where(Case.id.in_(case_ids)))
    pieces = [
        {"case_id": case_id, "piece": piece, "account_id": account_id}
        for case_id, image_hash in hashes
        if image_hash
        for piece in _pieces(int(image_hash, 16))
    ]
    if pieces:
        session.execute(insert(CasePiece), pieces)


def forget(session: Session, case_ids: Sequence[str]) -> None:
    """Let these cases no longer be found."""
    session.execute(delete(CasePiece).where(CasePiece.case_id.in_(case_ids)))


def _pieces(looks: int) -> Iterator[int]:
    """The four quarters of a hash, each with its place above it."""
    for place in range(64 // PIECE):
        yield place << PIECE | looks >> place * PIECE & (1 << PIECE) - 1
