"""The policy in force: rows behind the pure rules of shield.policy."""

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shield.db import now
from shield.models import Weights
from shield.policy import Policy


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


def default_policy(session: Session, weights_sha256: str) -> Policy:
    """The policy that the weights card brings along: its thresholds, named by name and version of the weights."""
    weights = session.get_one(Weights, weights_sha256)
    return Policy(
        version=f"default/{weights.name}-{weights.version}",
        fake=weights.fake_threshold,
        suspect=weights.suspect_threshold,
    )
