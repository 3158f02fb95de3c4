"""Re-judging: what other terms would have made of images that were scanned before. Nothing is scanned, or changed."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shield import past
from shield.policy import Terms, judge, sampled
from shield.states import Verdict

MOST = 20_000  # images that are looked at
EXAMPLES = 12  # of each kind of change
FLAGGED = (Verdict.FAKE, Verdict.SUSPECT)
SEVERITY = (Verdict.FAKE, Verdict.SUSPECT, Verdict.INCONCLUSIVE, Verdict.NO_FACE, Verdict.CLEAR)


@dataclass(frozen=True, slots=True)
class Change:
    """Images whose verdict would be another one: how many, and the ids of the newest ones."""

    before: Verdict
    after: Verdict
    images: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What would change among `images` that were looked at, and how many of them would go before a moderator.

    `before` and `after` count their verdicts.
    """

    images: int
    before: Counter[Verdict]
    after: Counter[Verdict]
    changes: tuple[Change, ...]
    sampled: int  # drawn at random besides those that are flagged

    @property
    def changed(self) -> int:
        """Images whose verdict would be another one."""
        return sum(change.images for change in self.changes)

    @property
    def flagged_before(self) -> int:
        """Images that are fake or suspect."""
        return sum(self.before[verdict] for verdict in FLAGGED)

    @property
    def flagged_after(self) -> int:
        """Images that would be."""
        return sum(self.after[verdict] for verdict in FLAGGED)


def preview(session: Session, account_id: str, terms: Terms, limit: int = MOST) -> Preview:
    """Judge the account's newest images by these terms, at most `limit`, each with the weights that scored it."""
    policies = {sha256: terms.policy("draft", default) for sha256, default in past.defaults(session).items()}
    moves: Counter[tuple[Verdict, Verdict]] = Counter()
    examples: defaultdict[tuple[Verdict, Verdict], list[str]] = defaultdict(list)
    drawn = 0
    for image in past.newest(session, account_id, limit):
        policy = policies[image.weights_sha256]
        move = image.verdict, judge(image.faces, policy, image.origin).verdict
        moves[move] += 1
        if move[0] != move[1] and len(examples[move]) < EXAMPLES:
            examples[move].append(image.item_id)
        drawn += move[1] not in FLAGGED and sampled(image.item_id, terms.review_share)
    before: Counter[Verdict] = Counter()
    after: Counter[Verdict] = Counter()
    for (old, new), images in moves.items():
        before[old] += images
        after[new] += images
    changed = sorted(examples, key=lambda move: (SEVERITY.index(move[1]), SEVERITY.index(move[0])))
    changes = tuple(Change(*move, moves[move], tuple(examples[move])) for move in changed)
    return Preview(moves.total(), before, after, changes, drawn)
