"""Images as they were scanned and judged, for what looks back at them."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from shield import dispatch, jobs, policies
from shield.models import Job
from shield.outcomes import Scanned
from shield.policy import FaceFacts, Origin, Policy, judge, sampled

WEIGHTS = "a" * 64
DEFAULT = Policy("default/test-1", fake=0.8, suspect=0.5)


def face(score: float, side: float = 100.0) -> FaceFacts:
    return FaceFacts(0.0, 0.0, side, side, 0.9, score, ((0.0, 0.0),) * 6)


def scan(
    session: Session,
    account_id: str,
    images: Sequence[Sequence[FaceFacts]],
    *,
    urls: Sequence[str | None] = (),
    weights: str = WEIGHTS,
    policy: Policy = DEFAULT,
) -> Job:
    """A job of these images, scanned and judged."""
    policies.register_weights(session, weights, f"test{weights[0]}", "1", DEFAULT.fake, DEFAULT.suspect)
    places = [*urls, *[None] * (len(images) - len(urls))]
    new = [jobs.NewItem(url=url, blob=None if url else f"{n:064x}") for n, url in enumerate(places)]
    job = jobs.submit(session, account_id, new, max(len(images), 1))
    held = dispatch.lease_next(session, 60) or dispatch.lease_ahead(session, 60)
    assert held is not None
    session.flush()
    outcomes = [
        Scanned(
            item_id=item.id,
            judgement=judge(tuple(faces), policy, Origin.of(item.url)),
            faces=tuple(faces),
            width=100,
            height=80,
            format="JPEG",
            sha256="b" * 64,
            view_blob=None,
            weights_sha256=weights,
            policy_version=policy.version,
            review_sample=sampled(item.id, policy.review_share),
        )
        for item, faces in zip(held.items, images, strict=True)
    ]
    dispatch.begin(session, [held])
    assert dispatch.record(session, held, outcomes) == len(images)
    return job
