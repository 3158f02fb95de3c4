"""Samples of clean images, by which an operating point is fitted (shield.operating).

Two kinds are fair to the images that come in: all images of jobs that are known to hold none but clean ones, and those
of the random review sample that a moderator found to be clean. What was reviewed because it was flagged is no such
sample, for every image of it scores high, and it is left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from shield import past
from shield.models import Case, Job, PolicyVersion
from shield.past import Past
from shield.policies import terms_of
from shield.policy import Terms, peak, sampled
from shield.states import Answer, CaseReason, Verdict

MOST = 20_000  # images of each kind


@dataclass(frozen=True, slots=True)
class CleanSample:
    """What clean images would be flagged by: a figure for each (shield.policy.peak).

    `reached` of them had the verdict, or a graver one, under the policies of then. `left_out` were scored by other
    weights than the newest ones: their scores do not compare. `waiting` of the random review sample are undecided.
    """

    peaks: tuple[float, ...]
    reached: int
    left_out: int
    waiting: int


def clean(
    session: Session, account_id: str, job_ids: Sequence[str], *, reviewed: bool, terms: Terms, verdict: Verdict
) -> CleanSample:
    """The images of these jobs of the account, and of its reviewed sample if asked for, as these terms would see them.

    `verdict`: fake or suspect, whose threshold is looked for.
    """
    defaults = past.defaults(session)
    policies = {sha256: terms.policy("draft", default) for sha256, default in defaults.items()}
    peaks: defaultdict[str, dict[str, float]] = defaultdict(dict)
    reached: Counter[str] = Counter()
    for image in _images(session, account_id, job_ids, reviewed=reviewed):
        seen = peaks[image.weights_sha256]
        if image.item_id not in seen:
            seen[image.item_id] = peak(image.faces, policies[image.weights_sha256], image.origin, verdict)
            reached[image.weights_sha256] += image.verdict in (Verdict.FAKE, verdict)
    newest = next((sha256 for sha256 in reversed(defaults) if sha256 in peaks), "")
    return CleanSample(
        peaks=tuple(peaks[newest].values()),
        reached=reached[newest],
        left_out=sum(len(seen) for sha256, seen in peaks.items() if sha256 != newest),
        waiting=_waiting(session, account_id) if reviewed else 0,
    )


def _images(session: Session, account_id: str, job_ids: Sequence[str], *, reviewed: bool) -> Iterator[Past]:
    yield from past.of_jobs(session, account_id, job_ids, MOST)
    if reviewed:
        yield from _reviewed(session, account_id)


def _reviewed(session: Session, account_id: str) -> Iterator[Past]:
    """Images of the random sample that were overturned, among the newest decided cases."""
    query = select(Case.item_id).join(Job, Job.id == Case.job_id)
    query = query.where(Case.account_id == account_id, Case.decided_at.is_not(None), Job.deleted_at.is_(None))
    query = query.where(Case.answer == Answer.OVERTURN).order_by(Case.decided_at.desc(), Case.id).limit(MOST)
    shares = _review_shares(session, account_id)
    for item_ids in session.scalars(query.execution_options(yield_per=past.PAGE)).partitions():
        for image in past.of_items(session, account_id, item_ids):
            if sampled(image.item_id, shares.get(image.policy_version, 0.0)):
                yield image


def _review_shares(session: Session, account_id: str) -> dict[str, float]:
    """The share that each of the account's versions drew for review; the default draws none."""
    query = select(PolicyVersion).where(PolicyVersion.account_id == account_id, PolicyVersion.version.is_not(None))
    return {row.version or "": terms_of(row).review_share for row in session.scalars(query)}


def _waiting(session: Session, account_id: str) -> int:
    """Images of the random sample, not flagged, that no moderator has decided."""
    query = select(func.count()).select_from(Case).join(Job, Job.id == Case.job_id)
    query = query.where(Case.account_id == account_id, Case.reason == CaseReason.SAMPLE, Job.deleted_at.is_(None))
    return session.scalars(query.where(Case.state != literal_column("'decided'"))).one()
