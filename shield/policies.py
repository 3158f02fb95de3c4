"""Policies: what each account asks for, version by version, in rows behind the pure rules of shield.policy.

A version is drafted, looked at, published; the newest published one is in force. Nothing is ever changed or taken back:
to roll back is to publish an earlier version's terms anew.
"""

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shield import audit
from shield.audit import Action
from shield.db import new_id, now
from shield.errors import DraftChanged, NotFound
from shield.models import Account, Item, PolicyVersion, Weights
from shield.policy import Policy, Terms

TERMS = TypeAdapter(Terms)
LONGEST_NOTE = 500  # characters


def register_weights(session: Session, sha256: str, name: str, version: str, fake: float, suspect: float) -> None:
    """Note which classifier a worker runs and its thresholds; the first note of a sha256 stays."""
    if session.get(Weights, sha256) is not None:
        return
    row = Weights(
        sha256=sha256,
        name=name,
        version=version,
        fake_threshold=fake,
        suspect_threshold=suspect,
        registered_at=now(session),
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return  # another worker was first, with the same card


def newest_weights(session: Session) -> Weights | None:
    """The classifier that a worker noted last; None before the first worker."""
    return session.scalars(select(Weights).order_by(Weights.registered_at.desc()).limit(1)).first()


def default_policy(session: Session, weights_sha256: str) -> Policy:
    """The policy that the weights card brings along."""
    return default_of(session.get_one(Weights, weights_sha256))


def default_of(weights: Weights) -> Policy:
    """The thresholds of a weights card, named by its name and version."""
    return Policy(
        version=f"default/{weights.name}-{weights.version}",
        fake=weights.fake_threshold,
        suspect=weights.suspect_threshold,
    )


def terms_of(row: PolicyVersion) -> Terms:
    """What a version asks for."""
    return TERMS.validate_python(row.terms)


def in_force(session: Session, account_id: str, default: Policy) -> Policy:
    """The policy that judges this account's images: its newest published version, else the default."""
    row = newest(session, account_id)
    return default if row is None else terms_of(row).policy(row.version or "", default)


def judged_by(item: Item) -> Policy | None:
    """The policy by which an item was judged, which its row and its weights tell; None before it is."""
    if item.weights is None or item.policy_version is None:
        return None
    default = default_of(item.weights)
    return default if item.judged_by is None else terms_of(item.judged_by).policy(item.policy_version, default)


def newest(session: Session, account_id: str) -> PolicyVersion | None:
    """The published version that is in force; None while the account goes by the default."""
    return next(iter(history(session, account_id, 1)), None)


def history(session: Session, account_id: str, limit: int, before: int | None = None) -> list[PolicyVersion]:
    """Published versions, the newest first, from the one before number `before` on."""
    query = select(PolicyVersion).where(PolicyVersion.account_id == account_id, PolicyVersion.number.is_not(None))
    if before is not None:
        query = query.where(PolicyVersion.number < before)
    return list(session.scalars(query.order_by(PolicyVersion.number.desc()).limit(limit)))


def draft(session: Session, account_id: str) -> PolicyVersion | None:
    """The account's draft, if it has one."""
    return session.scalars(select(PolicyVersion).where(*_draft_of(account_id))).one_or_none()


def save_draft(session: Session, account_id: str, terms: Terms, note: str, actor: str) -> PolicyVersion:
    """Put this in the place of the account's draft, under an id of its own: what is looked at is what is published."""
    _lock(session, account_id)
    session.execute(delete(PolicyVersion).where(*_draft_of(account_id)))
    return _add(session, account_id, terms, note, actor)


def discard_draft(session: Session, account_id: str) -> None:
    """Delete the account's draft. Without one nothing happens."""
    session.execute(delete(PolicyVersion).where(*_draft_of(account_id)))


def publish(session: Session, account_id: str, draft_id: str, actor: str) -> PolicyVersion:
    """Put the draft in force. Raises DraftChanged when this is no longer the account's draft."""
    _lock(session, account_id)
    row = draft(session, account_id)
    if row is None or row.id != draft_id:
        raise DraftChanged(
            "the draft that you looked at was changed, discarded or published since: nothing was published."
            " Look at the draft again before you publish it"
        )
    _number(session, row, actor)
    audit.note(session, Action.POLICY_PUBLISHED, actor, account_id, row.id, version=row.version or "")
    return row


def roll_back(session: Session, account_id: str, number: int, actor: str) -> PolicyVersion:
    """Publish an earlier version's terms anew; those of number 0 are the default. The draft stays.

    Raises NotFound for a number that the account has not published.
    """
    _lock(session, account_id)
    terms, name = Terms(), "the default"
    if number:
        query = select(PolicyVersion).where(PolicyVersion.account_id == account_id, PolicyVersion.number == number)
        earlier = session.scalars(query).one_or_none()
        if earlier is None:
            raise NotFound(f"no policy account/{number} in this account")
        terms, name = terms_of(earlier), f"account/{number}"
    row = _add(session, account_id, terms, f"Back to {name}", actor, publish=True)
    audit.note(session, Action.POLICY_ROLLED_BACK, actor, account_id, row.id, version=row.version or "", to=name)
    return row


def _add(
    session: Session, account_id: str, terms: Terms, note: str, actor: str, *, publish: bool = False
) -> PolicyVersion:
    row = PolicyVersion(
        id=new_id("pol"),
        account_id=account_id,
        terms=TERMS.dump_python(terms, mode="json"),
        note=note[:LONGEST_NOTE],
        made_by=actor,
        made_at=now(session),
    )
    if publish:
        _number(session, row, actor)
    session.add(row)
    session.flush()
    return row


def _number(session: Session, row: PolicyVersion, actor: str) -> None:
    """Make a row the newest published version of its account, which is locked."""
    before, moment = newest(session, row.account_id), now(session)
    row.number = 1 if before is None else (before.number or 0) + 1
    row.version = f"account/{row.number}"
    row.published_by, row.published_at = actor, moment
    session.flush()


def _lock(session: Session, account_id: str) -> None:
    """Let one transaction at a time change an account's policies."""
    session.execute(select(Account.id).where(Account.id == account_id).with_for_update(key_share=True))


def _draft_of(account_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return PolicyVersion.account_id == account_id, PolicyVersion.published_at.is_(None)
