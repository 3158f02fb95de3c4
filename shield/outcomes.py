"""Outcomes: what becomes of an item that a worker held, and the rows that say so."""

from dataclasses import dataclass
from datetime import datetime

from shield.policy import FaceFacts, Judgement
from shield.states import ItemState

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Scanned:
    """An item that was scanned and judged."""

    item_id: str
    judgement: Judgement
    faces: tuple[FaceFacts, ...]
    width: int
    height: int
    format: str
    sha256: str
    view_blob: str | None
    weights_sha256: str
    policy_version: str
    from_cache: bool = False
    image_hash: str | None = None  # of its looks: 64 bits in hex; None where the earlier scan did not tell
    review_sample: bool = False  # a moderator is to look at it, whatever its verdict


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that cannot be scanned: a stable code, and a sentence."""

    item_id: str
    code: str
    detail: str


Outcome = Scanned | Failed


def done_row(outcome: Scanned, moment: datetime) -> Row:
    """What a scan changes in its item's row."""
    return {
        "id": outcome.item_id,
        "state": ItemState.DONE,
        "ended_at": moment,
        "verdict": outcome.judgement.verdict,
        "reasons": list(outcome.judgement.reasons),
        "score": outcome.judgement.score,
        "image_width": outcome.width,
        "image_height": outcome.height,
        "image_format": outcome.format,
        "image_sha256": outcome.sha256,
        "image_hash": outcome.image_hash,
        "view_blob": outcome.view_blob,
        "weights_sha256": outcome.weights_sha256,
        "policy_version": outcome.policy_version,
        "from_cache": outcome.from_cache,
    }


def failed_row(outcome: Failed, moment: datetime) -> Row:
    """What a failure changes in its item's row."""
    return {
        "id": outcome.item_id,
        "state": ItemState.FAILED,
        "ended_at": moment,
        "error_code": outcome.code,
        "error_detail": outcome.detail[:1000],
    }


def face_row(item_id: str, account_id: str, ordinal: int, face: FaceFacts) -> Row:
    """A kept detection's row."""
    return {
        "item_id": item_id,
        "ordinal": ordinal,
        "account_id": account_id,
        "left": face.left,
        "top": face.top,
        "width": face.width,
        "height": face.height,
        "detection_score": face.detection_score,
        "score": face.score,
        "landmarks": [list(point) for point in face.landmarks],
    }
