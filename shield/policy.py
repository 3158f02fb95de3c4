"""The policy: from measured facts to a verdict. Pure: no clock, no database, no pixels.

The pipeline measures, the policy judges, the moderator decides. A new policy re-judges old measurements without a scan.
"""

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum

from shield.states import Verdict

SMALLEST_FACE = 24.0  # pixels
MOST_RULES = 20  # of a policy


class Origin(StrEnum):
    """Where an item's image comes from: sent to us, or read from a web server or an S3 bucket."""

    UPLOAD = "upload"
    URL = "url"
    S3 = "s3"

    @classmethod
    def of(cls, source_url: str | None) -> "Origin":
        """By the item's URL, if it has one."""
        if source_url is None:
            return cls.UPLOAD
        return cls.S3 if source_url.startswith("s3://") else cls.URL


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

    @property
    def shorter_side(self) -> float:
        """Of its box, in pixels: what the size of a face is taken by."""
        return min(self.width, self.height)


@dataclass(frozen=True, slots=True)
class Rule:
    """Other thresholds for some faces: in images of these origins (of any where there is none), and of this size.

    `below` is in pixels: the rule is for faces whose shorter side is smaller. Raises ValueError for thresholds that no
    score can reach in order, and for a rule that would be for every face.
    """

    fake: float
    suspect: float
    origins: tuple[Origin, ...] = ()
    below: float | None = None

    def __post_init__(self) -> None:
        check_thresholds(self.fake, self.suspect)
        if not self.origins and self.below is None:
            raise ValueError("a rule says for which sources it is, or below which size of face")
        if self.below is not None and not self.below > 0.0:
            raise ValueError(f"a face is never smaller than {self.below:g} pixels")

    def fits(self, face: FaceFacts, origin: Origin) -> bool:
        """Whether this rule is for this face."""
        return (not self.origins or origin in self.origins) and (self.below is None or face.shorter_side < self.below)


@dataclass(frozen=True, slots=True)
class Policy:
    """Versioned thresholds on the score, and the smallest face that is judged, in pixels of its shorter side.

    The first rule that fits a face gives its thresholds. `review_share` of all items, in [0, 1], are put before a
    moderator whatever their verdict. Raises ValueError for figures out of range.
    """

    version: str
    fake: float
    suspect: float
    smallest_face: float = SMALLEST_FACE
    rules: tuple[Rule, ...] = ()
    review_share: float = 0.0

    def __post_init__(self) -> None:
        check_thresholds(self.fake, self.suspect)
        check_figures(self.smallest_face, self.review_share)

    def thresholds(self, face: FaceFacts, origin: Origin) -> "Rule | Policy":
        """What has the thresholds `fake` and `suspect` of this face: the rule that fits it first, else the policy."""
        return next((rule for rule in self.rules if rule.fits(face, origin)), self)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an account asks of its policy. Thresholds that it leaves to the weights card are None, both of them.

    Raises ValueError for figures out of range.
    """

    fake: float | None = None
    suspect: float | None = None
    smallest_face: float = SMALLEST_FACE
    rules: tuple[Rule, ...] = ()
    review_share: float = 0.0

    def __post_init__(self) -> None:
        check_figures(self.smallest_face, self.review_share)
        if self.fake is not None and self.suspect is not None:
            check_thresholds(self.fake, self.suspect)
        elif self.fake is not None or self.suspect is not None:
            raise ValueError("give both thresholds, or leave both to the model")
        if len(self.rules) > MOST_RULES:
            raise ValueError(f"a policy has {MOST_RULES} rules at most")

    def policy(self, version: str, default: Policy) -> Policy:
        """The policy that these make, with the weights card's thresholds in `default` where they are left to it."""
        return Policy(
            version=version,
            fake=default.fake if self.fake is None else self.fake,
            suspect=default.suspect if self.suspect is None else self.suspect,
            smallest_face=self.smallest_face,
            rules=self.rules,
            review_share=self.review_share,
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, its reasons (stable codes with figures), and the item's score: its highest judged face, or None."""

    verdict: Verdict
    reasons: tuple[str, ...]
    score: float | None


def judge(faces: tuple[FaceFacts, ...], policy: Policy, origin: Origin) -> Judgement:
    """Judge an image by its faces: one fake face makes it fake; faces too small to score never make it clear."""
    if not faces:
        return Judgement(Verdict.NO_FACE, ("no_face_found",), None)
    judged = [face for face in faces if face.shorter_side >= policy.smallest_face]
    if not judged:
        return Judgement(Verdict.INCONCLUSIVE, ("faces_too_small",), None)
    score = max(face.score for face in judged)
    ignored = ("small_faces_ignored",) if len(judged) < len(faces) else ()
    limits = [(face.score, policy.thresholds(face, origin)) for face in judged]
    for verdict, reached in (
        (Verdict.FAKE, sum(score >= limit.fake for score, limit in limits)),
        (Verdict.SUSPECT, sum(score >= limit.suspect for score, limit in limits)),
    ):
        if reached:
            return Judgement(verdict, (f"{reached}_of_{len(judged)}_faces_reach_{verdict}", *ignored), score)
    return Judgement(Verdict.CLEAR, ("no_face_reaches_suspect", *ignored), score)


def peak(faces: tuple[FaceFacts, ...], policy: Policy, origin: Origin, verdict: Verdict) -> float:
    """What brings an image its verdict, or would: the highest score that the policy's own thresholds judge.

    0 where there is none, and infinity where a rule brings the verdict whatever those thresholds are. `verdict`: fake,
    or suspect, which fake is too.
    """
    highest = 0.0
    for face in faces:
        if face.shorter_side < policy.smallest_face:
            continue
        limits = policy.thresholds(face, origin)
        if limits is policy:
            highest = max(highest, face.score)
        elif face.score >= (limits.fake if verdict == Verdict.FAKE else limits.suspect):
            return math.inf
    return highest


def sampled(item_id: str, share: float) -> bool:
    """Whether this item is in a random sample of this share of all. The answer stays; a larger share only adds."""
    if not share:
        return False
    drawn = int.from_bytes(hashlib.sha256(f"review {item_id}".encode()).digest()[:8])
    return drawn < share * 2**64


def check_thresholds(fake: float, suspect: float) -> None:
    """Raises ValueError unless a rising score is first clear, then suspect, then fake."""
    if not 0.0 < suspect <= fake <= 1.0:
        raise ValueError(f"thresholds must satisfy 0 < suspect <= fake <= 1, not {suspect} and {fake}")


def check_figures(smallest_face: float, review_share: float) -> None:
    """Raises ValueError unless there can be such a face, and such a share."""
    if not 0.0 <= smallest_face < math.inf:
        raise ValueError(f"the smallest face that is judged cannot be {smallest_face:g} pixels")
    if not 0.0 <= review_share <= 1.0:
        raise ValueError(f"a share is between 0 and 1, not {review_share:g}")
