"""The policy: from measured facts to a verdict. Pure: no clock, no database, no pixels.

The pipeline measures, the policy judges, the moderator decides. A new policy re-judges old measurements without a scan.
"""

from dataclasses import dataclass

from shield.states import Verdict


@dataclass(frozen=True, slots=True)
class FaceFacts:
    """A face as measured: box in pixels of the upright image, scores in [0, 1], `score` calibrated P(fake)."""

    left: float
    top: float
    width: float
    height: float
    detection_score: float
    score: float
    landmarks: tuple[tuple[float, float], ...]  # six points (x, y) in pixels


@dataclass(frozen=True, slots=True)
class Policy:
    """Versioned thresholds on the score, and the smallest face that is judged, in pixels of the box's shorter side."""

    version: str
    fake: float
    suspect: float
    smallest_face: float = 24.0

    def __post_init__(self) -> None:
        if not 0.0 < self.suspect <= self.fake <= 1.0:
            raise ValueError(f"thresholds must satisfy 0 < suspect <= fake <= 1, not {self.suspect} and {self.fake}")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, its reasons (stable codes with figures), and the item's score: its highest judged face, or None."""

    verdict: Verdict
    reasons: tuple[str, ...]
    score: float | None


def judge(faces: tuple[FaceFacts, ...], policy: Policy) -> Judgement:
    """Judge an image by its faces: one fake face makes it fake; faces too small to score never make it clear."""
    if not faces:
        return Judgement(Verdict.NO_FACE, ("no_face_found",), None)
    judged = [face for face in faces if min(face.width, face.height) >= policy.smallest_face]
    if not judged:
        return Judgement(Verdict.INCONCLUSIVE, ("faces_too_small",), None)
    score = max(face.score for face in judged)
    ignored = ("small_faces_ignored",) if len(judged) < len(faces) else ()
    for verdict, threshold in ((Verdict.FAKE, policy.fake), (Verdict.SUSPECT, policy.suspect)):
        reached = sum(face.score >= threshold for face in judged)
        if reached:
            return Judgement(verdict, (f"{reached}_of_{len(judged)}_faces_reach_{verdict}", *ignored), score)
    return Judgement(Verdict.CLEAR, ("no_face_reaches_suspect", *ignored), score)
