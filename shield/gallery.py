"""A job's items as people look through them: narrowed, searched by their names, the highest scores first."""

from dataclasses import dataclass

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from shield import jobs
from shield.errors import InvalidSubmission
from shield.models import Item, Job
from shield.states import ItemState, Verdict

# Items that are read for one page where no index leads to them: about 50 ms. A job's counts tell how many there are.
MOST = 20_000
LAST = -1.0  # the place of an item without a score: below every score


@dataclass(frozen=True, slots=True)
class Look:
    """Which items, and in which order: that of the submission, or the highest score first."""

    state: ItemState | None = None
    verdict: Verdict | None = None
    search: str = ""  # what the custom_id holds somewhere, in letters of either case
    by_score: bool = False


def sortable(job: Job, look: Look) -> bool:
    """Whether the items that this look narrows to are few enough to be searched and sorted."""
    narrowed = str(look.verdict or look.state)
    count = getattr(job, narrowed) if narrowed in jobs.COUNTS else job.total
    return int(count) <= MOST


def items(session: Session, job: Job, look: Look, limit: int, after: str | None = None) -> list[Item]:
    """Items of a job, with faces and weights, from the one after `after` on.

    Raises InvalidSubmission where `after` is no id of an item of this job, and where they are too many to be searched
    or sorted.
    """
    if not look.search and not look.by_score:
        return jobs.items(session, job, limit, after, look.state, look.verdict)
    if not sortable(job, look):
        detail = f"more than {MOST:,} photos are not searched or sorted: show those of one verdict first"
        raise InvalidSubmission(detail, "/search" if look.search else "/sort")
    query = jobs.narrowed(job, look.state, look.verdict)
    if look.search:
        query = query.where(Item.custom_id.icontains(look.search, autoescape=True))
    depth = -func.coalesce(Item.score, LAST)  # rises from the highest score on
    place = tuple_(depth, Item.ordinal) if look.by_score else tuple_(Item.ordinal)
    if after is not None:
        ordinal = jobs.check_after(job, after)
        last = select(depth).where(Item.job_id == job.id, Item.ordinal == ordinal).scalar_subquery()
        query = query.where(place > (tuple_(last, ordinal) if look.by_score else tuple_(ordinal)))
    return list(session.scalars(query.order_by(*place.clauses).limit(limit)))
