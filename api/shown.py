"""What the pages show of an item: words instead of codes, boxes ready to be drawn over its view."""

from dataclasses import dataclass
from typing import Self

from api.words import STATES, VERDICTS, error_in_words, percent, reason_in_words
from shield import policies
from shield.models import Face, Item
from shield.policy import FaceFacts, Origin, Policy, judge
from shield.states import ItemState, Verdict

CARD = (300, 225)  # pixels of a picture in the grid, about: labels are drawn to be legible there
LABEL = 15  # pixels, height of a label's letters
LETTER = 0.6  # width of a letter by its height, about
CROWD = 4  # faces; labels of more are drawn smaller in the grid


@dataclass(frozen=True, slots=True)
class ShownFace:
    """A face's box and label, in pixels of the upright image; `verdict` is the policy's for this face alone.

    `chance` is the score of `score`, in [0, 1].
    """

    ordinal: int
    left: float
    top: float
    width: float
    height: float
    chance: float
    score: str
    verdict: str
    label_left: float
    label_top: float
    label_width: float


@dataclass(frozen=True, slots=True)
class ShownItem:
    """An item for people. `text` is the height of the labels' letters, in pixels of the upright image."""

    id: str
    title: str
    level: str  # the verdict, else the state: what it is coloured by
    headline: str
    score: str
    meaning: str  # of the verdict
    reasons: list[str]
    has_view: bool
    width: int
    height: int
    text: float
    faces: list[ShownFace]

    @property
    def gravest_first(self) -> list[ShownFace]:
        """Its faces, the highest score first."""
        return sorted(self.faces, key=lambda face: -face.chance)

    @classmethod
    def of(cls, row: Item, larger: float = 1.0, policy: Policy | None = None) -> Self:
        """From a whole row; `larger` is how much larger than in the grid it is shown.

        Faces are coloured by `policy`, or by the one that the item was judged by.
        """
        width, height = row.image_width or 0, row.image_height or 0
        text = max(width / CARD[0], height / CARD[1]) * LABEL / larger
        if len(row.faces) > CROWD and larger == 1.0:
            text *= 0.75
        headline, meaning, reasons = _words(row)
        return cls(
            id=row.id,
            title=(row.custom_id or "").strip() or row.source_url or f"Photo {row.ordinal + 1}",
            level=row.verdict or row.state,
            headline=headline,
            score=percent(row.score) if row.score is not None else "",
            meaning=meaning,
            reasons=reasons,
            has_view=row.view_blob is not None and bool(width and height),
            width=width,
            height=height,
            text=text,
            faces=[_shown_face(face, row, text, policy or policies.judged_by(row)) for face in row.faces],
        )


def _words(row: Item) -> tuple[str, str, list[str]]:
    """The headline of an item, what its verdict means, and the reasons or the error."""
    if row.verdict is not None:
        return *VERDICTS[Verdict(row.verdict)], [reason_in_words(code) for code in row.reasons]
    if row.error_code is not None:
        return STATES[ItemState.FAILED], "", [error_in_words(row.error_code)]
    return STATES[ItemState(row.state)], "", []


def _shown_face(face: Face, row: Item, text: float, policy: Policy | None) -> ShownFace:
    score = percent(face.score)
    width, height = (len(score) + 1) * LETTER * text, 1.4 * text
    above = face.top - height
    return ShownFace(
        ordinal=face.ordinal,
        left=face.left,
        top=face.top,
        width=face.width,
        height=face.height,
        chance=face.score,
        score=score,
        verdict=_verdict_alone(face, row, policy),
        label_left=min(max(face.left, 0.0), max((row.image_width or 0) - width, 0.0)),
        label_top=above if above >= 0 else max(face.top, 0.0),
        label_width=width,
    )


def _verdict_alone(face: Face, row: Item, policy: Policy | None) -> str:
    """What the policy would say of this face alone."""
    if policy is None:
        return Verdict.INCONCLUSIVE
    facts = FaceFacts(face.left, face.top, face.width, face.height, face.detection_score, face.score, ())
    return judge((facts,), policy, Origin.of(row.source_url)).verdict
