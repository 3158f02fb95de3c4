"""What the server answers, typed: jobs with their counts, results with their faces.

Boxes and landmarks are in pixels of the upright image. Scores lie in [0, 1]; an item's or a face's `score` is P(fake),
calibrated. `raw` is the JSON object as the server sent it: a field that is newer than this package is not lost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items of a job are in each state, and how many of the done ones have each verdict.

    `rejected` counts what is no item: lines of a manifest, members of a zip, keys of a prefix that cannot be one.
    """

    total: int = 0
    pending: int = 0
    done: int = 0
    failed: int = 0
    canceled: int = 0
    fake: int = 0
    suspect: int = 0
    clear: int = 0
    no_face: int = 0
    inconclusive: int = 0
    rejected: int = 0

    @property
    def terminal(self) -> int:
        """Items that will not change any more."""
        return self.done + self.failed + self.canceled

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Self:
        """From the `counts` of a job."""
        return cls(**{one.name: int(json.get(one.name, 0)) for one in fields(cls)})

    @classmethod
    def sum(cls, counts: Iterable["Counts"]) -> Self:
        """The counts of several jobs taken together."""
        rows = list(counts)
        return cls(**{one.name: sum(getattr(row, one.name) for row in rows) for one in fields(cls)})


@dataclass(frozen=True, slots=True)
class Job:
    """One submission of many images. How it went is in its counts.

    `progress` lies in [0, 1]. `eta_seconds` is the server's guess, None where it has none. `retry_of` is the id of the
    job whose failed items these are. `reason` says why a job ended early, `reason_detail` in a sentence.
    """

    id: str
    state: str
    counts: Counts
    name: str
    created_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    progress: float
    eta_seconds: float | None
    retry_of: str | None
    reason: str | None
    reason_detail: str | None
    raw: Json = field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether every item is terminal."""
        return self.state == "ended"

    @classmethod
    def from_json(cls, json: Json) -> Self:
        """From the body of GET /v1/jobs/{id}."""
        return cls(
            id=json["id"],
            state=json["state"],
            counts=Counts.from_json(json["counts"]),
            name=json.get("name") or "",
            created_at=_moment(json.get("created_at")),
            ended_at=_moment(json.get("ended_at")),
            expires_at=_moment(json.get("expires_at")),
            progress=float(json.get("progress") or 0.0),
            eta_seconds=json.get("eta_seconds"),
            retry_of=json.get("retry_of"),
            reason=json.get("reason"),
            reason_detail=json.get("reason_detail"),
            raw=json,
        )


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright image."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Face:
    """One face: where it is, how sure the detector is, P(fake), and six points (x, y)."""

    box: Box
    detection_score: float
    score: float
    landmarks: tuple[tuple[float, float], ...]

    @classmethod
    def from_json(cls, json: Json) -> Self:
        """From one of a result's `faces`."""
        box = json["box"]
        return cls(
            box=Box(box["left"], box["top"], box["width"], box["height"]),
            detection_score=json["detection_score"],
            score=json["score"],
            landmarks=tuple((x, y) for x, y in json.get("landmarks") or ()),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """One item of a job.

    `verdict` is fake, suspect, clear, no_face or inconclusive where `state` is done, else None; `error_code` and
    `error_detail` say why where `state` is failed, else they are None.
    """

    id: str
    custom_id: str | None
    state: str
    verdict: str | None
    reasons: tuple[str, ...]
    score: float | None
    faces: tuple[Face, ...]
    error_code: str | None
    error_detail: str | None
    raw: Json = field(repr=False, compare=False)

    @property
    def terminal(self) -> bool:
        """Whether this item will not change any more."""
        return self.state in ("done", "failed", "canceled")

    @classmethod
    def from_json(cls, json: Json) -> Self:
        """From a line of /results or an element of /items."""
        error = json.get("error") or {}
        return cls(
            id=json["id"],
            custom_id=json.get("custom_id"),
            state=json["state"],
            verdict=json.get("verdict"),
            reasons=tuple(json.get("reasons") or ()),
            score=json.get("score"),
            faces=tuple(Face.from_json(face) for face in json.get("faces") or ()),
            error_code=error.get("code"),
            error_detail=error.get("detail"),
            raw=json,
        )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
