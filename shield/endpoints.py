"""Endpoints: the webhooks of an account, what they subscribe to, and the secrets that sign what they are sent."""

import base64
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shield import addresses, audit
from shield.audit import Action
from shield.db import new_id, now
from shield.errors import (
    EndpointDisabled,
    FetchFailed,
    NotFound,
    SealBroken,
    TooManyEndpoints,
    UnsafeUrl,
    UrlRefused,
    WeakSecret,
)
from shield.models import Account, Endpoint, Notice
from shield.secret import Seal
from shield.states import DisabledReason, EventType, NoticeCode

PREFIX = "whsec_"
SECRET_BYTES = (24, 64)  # as Standard Webhooks has it
NEW_SECRET_BYTES = 32
OVERLAP = timedelta(hours=24)  # that the secret before a rotation goes on signing
OLD_SECRETS = 3  # that go on signing where one rotation follows another: an answer that got lost is asked for again
MOST = 20  # endpoints of an account: each is looked at when one of its jobs ends
LOOKUP_SECONDS = 3.0


def check_url(url: str, *, allow_loopback: bool) -> None:
    """Raises UnsafeUrl for a URL that nothing will be sent to. Looks its host up, so it belongs in no transaction.

    A host without an address passes: it may get one. What its name leads to is checked again at every delivery.
    """
    try:
        parsed = addresses.parse(url, allow_loopback=allow_loopback)
        if parsed.scheme != b"https" and not allow_loopback:
            raise UnsafeUrl("the URL of a webhook must begin with https://", "/url")
        port = parsed.port or addresses.PORTS[parsed.scheme.decode()]
        with suppress(TimeoutError):
            addresses.resolve(parsed.host.decode(), port, seconds=LOOKUP_SECONDS, allow_loopback=allow_loopback)
    except UrlRefused as error:
        raise UnsafeUrl(str(error), "/url") from error
    except FetchFailed:
        return


def create(
    session: Session,
    account_id: str,
    seal: Seal,
    url: str,
    events: Sequence[EventType],
    *,
    description: str = "",
    secret: str | None = None,
    actor: str = audit.OPERATOR,
) -> tuple[Endpoint, str]:
    """A new endpoint at a URL that was checked, and its secret, whole for the only time.

    Raises WeakSecret, TooManyEndpoints.
    """
    # Two that are made at once are counted one after the other.
    session.execute(select(Account.id).where(Account.id == account_id).with_for_update(key_share=True))
    mine = select(func.count()).where(Endpoint.account_id == account_id, Endpoint.deleted_at.is_(None))
    if (session.scalar(mine) or 0) >= MOST:
        raise TooManyEndpoints(f"this account has {MOST} webhooks, the most that it may have: delete one first", "/url")
    key = _checked(secret) if secret is not None else _new_secret()
    made = new_id("whk")
    endpoint = Endpoint(
        id=made,
        account_id=account_id,
        url=url,
        description=description,
        events=[str(kind) for kind in events],
        secret=seal.close(key, made),
        created_at=now(session),
    )
    session.add(endpoint)
    session.flush()
    _notice(session, endpoint, NoticeCode.CREATED, f"it is sent to {url}")
    _note(session, Action.WEBHOOK_CREATED, actor, endpoint, host=_host(url))
    return endpoint, key


def get(session: Session, account_id: str, endpoint_id: str) -> Endpoint:
    """An endpoint of this account. Raises NotFound, also for one that was deleted."""
    query = select(Endpoint).where(Endpoint.id == endpoint_id, Endpoint.account_id == account_id)
    found = session.scalars(query.where(Endpoint.deleted_at.is_(None))).first()
    if found is None:
        raise NotFound(f"no webhook {endpoint_id} in this account")
    return found


def get_enabled(session: Session, account_id: str, endpoint_id: str) -> Endpoint:
    """An endpoint that is sent something. Raises NotFound, EndpointDisabled."""
    endpoint = get(session, account_id, endpoint_id)
    if endpoint.disabled_at is not None:
        raise EndpointDisabled(f"{endpoint_id} is disabled ({endpoint.disabled_reason}): enable it first")
    return endpoint


def of_account(session: Session, account_id: str) -> list[Endpoint]:
    """All endpoints of an account, the oldest first; there are never more than MOST."""
    query = select(Endpoint).where(Endpoint.account_id == account_id, Endpoint.deleted_at.is_(None))
    return list(session.scalars(query.order_by(Endpoint.id)))


def notices(session: Session, account_id: str, endpoint_id: str, limit: int, after: str | None = None) -> list[Notice]:
    """What became of an endpoint, the newest first. Raises NotFound."""
    endpoint = get(session, account_id, endpoint_id)
    query = select(Notice).where(Notice.account_id == account_id, Notice.endpoint_id == endpoint.id)
    if after is not None:
        query = query.where(Notice.id < after)
    return list(session.scalars(query.order_by(Notice.id.desc()).limit(limit)))


def change(
    session: Session,
    account_id: str,
    endpoint_id: str,
    *,
    url: str | None = None,
    events: Sequence[EventType] | None = None,
    description: str | None = None,
    actor: str = audit.OPERATOR,
) -> Endpoint:
    """Change what is given. What is already owed goes to the new URL. Raises NotFound."""
    endpoint = get(session, account_id, endpoint_id)
    if url is not None:
        endpoint.url, endpoint.failing_since = url, None
    if events is not None:
        endpoint.events = [str(kind) for kind in events]
    if description is not None:
        endpoint.description = description
    session.flush()
    _notice(session, endpoint, NoticeCode.CHANGED, f"it is sent {', '.join(endpoint.events)} to {endpoint.url}")
    _note(session, Action.WEBHOOK_CHANGED, actor, endpoint, host=_host(endpoint.url))
    return endpoint


def rotate(
    session: Session,
    account_id: str,
    endpoint_id: str,
    seal: Seal,
    secret: str | None = None,
    actor: str = audit.OPERATOR,
) -> str:
    """A new secret, whole for the only time; what signs by now goes on signing beside it for OVERLAP.

    Raises NotFound, WeakSecret.
    """
    endpoint = get(session, account_id, endpoint_id)
    session.refresh(endpoint, with_for_update={"key_share": True})  # of two at once the later one sees the other's
    key = _checked(secret) if secret is not None else _new_secret()
    until = now(session) + OVERLAP
    old = [each for each in _signing(session, endpoint, seal) if each != key][:OLD_SECRETS]
    endpoint.secret = seal.close(key, endpoint.id)
    endpoint.old_secret, endpoint.old_secret_until = None, None
    if old:
        endpoint.old_secret, endpoint.old_secret_until = seal.close(" ".join(old), endpoint.id), until
    session.flush()
    told = f"what signed before signs until {until:%F %T} UTC" if old else "nothing signs beside the new secret"
    _notice(session, endpoint, NoticeCode.ROTATED, told)
    _note(session, Action.WEBHOOK_ROTATED, actor, endpoint)
    return key


def opened(seal: Seal, sealed: bytes, endpoint_id: str) -> list[str]:
    """The secrets of an endpoint that are sealed together, the newest first. Raises SealBroken."""
    return seal.open(sealed, endpoint_id).split()


def _signing(session: Session, endpoint: Endpoint, seal: Seal) -> list[str]:
    """The secrets that sign by now, the newest first. One that cannot be opened signs nothing."""
    sealed = [endpoint.secret]
    if endpoint.old_secret is not None and endpoint.old_secret_until and endpoint.old_secret_until > now(session):
        sealed.append(endpoint.old_secret)
    found: list[str] = []
    for each in sealed:
        with suppress(SealBroken):
            found += opened(seal, each, endpoint.id)
    return found


def enable(session: Session, account_id: str, endpoint_id: str, actor: str = audit.OPERATOR) -> Endpoint:
    """Send to it again. Nothing happens where it is enabled. Raises NotFound."""
    endpoint = get(session, account_id, endpoint_id)
    if endpoint.disabled_at is not None:
        endpoint.disabled_at = endpoint.disabled_reason = endpoint.failing_since = None
        session.flush()
        _notice(session, endpoint, NoticeCode.ENABLED, "by the account")
        _note(session, Action.WEBHOOK_ENABLED, actor, endpoint)
    return endpoint


def disable(
    session: Session, endpoint: Endpoint, reason: DisabledReason, detail: str, actor: str = audit.HOUSE
) -> None:
    """Send to it no more: what is owed to it is dropped as it comes due. Nothing happens where it is disabled."""
    if endpoint.disabled_at is None:
        endpoint.disabled_at, endpoint.disabled_reason = now(session), reason
        session.flush()
        _notice(session, endpoint, NoticeCode.DISABLED, detail)
        _note(session, Action.WEBHOOK_DISABLED, actor, endpoint, reason=reason)


def delete(session: Session, account_id: str, endpoint_id: str, actor: str = audit.OPERATOR) -> None:
    """Hide an endpoint from its account, and forget its secrets. Raises NotFound."""
    endpoint = get(session, account_id, endpoint_id)
    disable(session, endpoint, DisabledReason.BY_ACCOUNT, "the account deletes it", actor)
    endpoint.deleted_at = now(session)
    endpoint.secret, endpoint.old_secret, endpoint.old_secret_until = b"", None, None
    session.flush()
    _notice(session, endpoint, NoticeCode.DELETED, "by the account")
    _note(session, Action.WEBHOOK_DELETED, actor, endpoint)


def _new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode()


def _checked(secret: str) -> str:
    """A secret that the account gives. Raises WeakSecret."""
    least, most = SECRET_BYTES
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except ValueError:  # also for what is not ASCII
        key = b""
    if not least <= len(key) <= most:
        rule = f"{PREFIX} and the base64 of {least} to {most} random bytes"
        raise WeakSecret(f"a secret is {rule}: leave it out, and a good one is made", "/secret")
    return secret


def _note(session: Session, action: Action, actor: str, endpoint: Endpoint, **detail: str) -> None:
    audit.note(session, action, actor, endpoint.account_id, endpoint.id, **detail)


def _host(url: str) -> str:
    """What of a URL the audit log keeps for good: its path and query may hold a secret."""
    return urlsplit(url).hostname or ""


def _notice(session: Session, endpoint: Endpoint, code: NoticeCode, detail: str) -> None:
    session.add(
        Notice(
            id=new_id("ntc"),
            account_id=endpoint.account_id,
            endpoint_id=endpoint.id,
            code=code,
            detail=detail[:1000],
            created_at=now(session),
        )
    )
    session.flush()
