"""Endpoints and their secrets."""

import base64
from datetime import timedelta

import pytest

from shield import accounts, audit, endpoints
from shield.db import Database, now
from shield.errors import EndpointDisabled, NotFound, SealBroken, TooManyEndpoints, UnsafeUrl, WeakSecret
from shield.models import Endpoint
from shield.secret import Seal
from shield.states import DisabledReason, EventType
from tests.shield.post import SEAL, URL, subscribe


def whsec(count: int) -> str:
    return "whsec_" + base64.b64encode(bytes(range(count))).decode()


def old_secrets(endpoint: Endpoint) -> list[str]:
    assert endpoint.old_secret is not None
    return endpoints.opened(SEAL, endpoint.old_secret, endpoint.id)


def notices(database: Database, endpoint: Endpoint) -> list[tuple[str, str]]:
    """The oldest first."""
    with database.read() as session:
        rows = endpoints.notices(session, endpoint.account_id, endpoint.id, 100)
    return [(row.code, row.detail) for row in reversed(rows)]


def test_who_did_what_to_a_webhook_is_in_the_audit_log_and_no_secret_is(database: Database, account_id: str) -> None:
    url = "https://hooks.example/path-secret?token=query-secret"
    with database.write() as session:
        made, first = endpoints.create(session, account_id, SEAL, url, [], actor="key_1")
        endpoints.change(session, account_id, made.id, description="mine", actor="mod_1")
        second = endpoints.rotate(session, account_id, made.id, SEAL, actor="mod_1")
        endpoints.disable(session, made, DisabledReason.BY_ACCOUNT, "by the account", "mod_1")
        endpoints.enable(session, account_id, made.id, "mod_1")
        endpoints.delete(session, account_id, made.id, "key_1")
    with database.read() as session:
        entries = [entry for entry in audit.newest(session, account_id, 7) if entry.target == made.id]
        assert [(entry.action.removeprefix("webhook."), entry.actor) for entry in reversed(entries)] == [
            ("created", "key_1"),
            ("changed", "mod_1"),
            ("rotated", "mod_1"),
            ("disabled", "mod_1"),
            ("enabled", "mod_1"),
            ("disabled", "key_1"),
            ("deleted", "key_1"),
        ]
        told = " ".join(entry.detail for entry in entries)
    assert "hooks.example" in told
    assert not any(secret in told for secret in ("path-secret", "query-secret", first, second))


def test_a_new_secret_is_random_and_rests_encrypted(database: Database, account_id: str) -> None:
    with database.write() as session:
        (first, one), (_, two) = (endpoints.create(session, account_id, SEAL, URL, []) for _ in range(2))
    assert one != two
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32
    assert one.encode() not in first.secret
    assert base64.b64decode(one.removeprefix("whsec_")) not in first.secret
    assert SEAL.open(first.secret, first.id) == one


@pytest.mark.parametrize("count", [24, 64])
def test_a_secret_may_be_given(database: Database, account_id: str, count: int) -> None:
    with database.write() as session:
        row, secret = endpoints.create(session, account_id, SEAL, URL, [], secret=whsec(count))
    assert SEAL.open(row.secret, row.id) == secret == whsec(count)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", whsec(23), whsec(65), whsec(32).removeprefix("whsec_"), "whsec_p!", "whsec_\u00e9"]
)
def test_a_secret_that_is_weak_or_none_is_refused(database: Database, account_id: str, secret: str) -> None:
    with database.write() as session:
        with pytest.raises(WeakSecret) as caught:
            endpoints.create(session, account_id, SEAL, URL, [], secret=secret)
        assert caught.value.pointer == "/secret"
        endpoint = subscribe(session, account_id)
        with pytest.raises(WeakSecret):
            endpoints.rotate(session, account_id, endpoint.id, SEAL, secret)
        assert endpoint.old_secret is None


def test_what_is_sealed_opens_under_its_key_and_in_its_row_alone() -> None:
    sealed = SEAL.close("words", "whk_1")
    assert SEAL.open(sealed, "whk_1") == "words"
    assert SEAL.close("words", "whk_1") != sealed
    for seal, content, owner in (
        (Seal("another key"), sealed, "whk_1"),
        (SEAL, sealed, "whk_2"),
        (SEAL, sealed[:-1] + bytes([sealed[-1] ^ 1]), "whk_1"),
        (SEAL, b"", "whk_1"),
    ):
        with pytest.raises(SealBroken, match="Rotate"):
            seal.open(content, owner)


def test_a_rotation_keeps_the_old_secret_for_a_day(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint, old = endpoints.create(session, account_id, SEAL, URL, [])
        new = endpoints.rotate(session, account_id, endpoint.id, SEAL)
        assert endpoint.old_secret is not None
        assert endpoint.old_secret_until is not None
        assert (SEAL.open(endpoint.secret, endpoint.id), SEAL.open(endpoint.old_secret, endpoint.id)) == (new, old)
        assert timedelta(hours=23) < endpoint.old_secret_until - now(session) <= timedelta(hours=24)
    assert [code for code, _ in notices(database, endpoint)] == ["created", "rotated"]


def test_every_secret_of_rotations_that_follow_each_other_signs_until_the_day_is_over(
    database: Database, account_id: str
) -> None:
    with database.write() as session:
        endpoint, first = endpoints.create(session, account_id, SEAL, URL, [])
        made = [first, *(endpoints.rotate(session, account_id, endpoint.id, SEAL) for _ in range(2))]
        assert old_secrets(endpoint) == [made[1], made[0]]
        endpoints.rotate(session, account_id, endpoint.id, SEAL, made[0])  # back to the first
        assert old_secrets(endpoint) == [made[2], made[1]]
        made += [endpoints.rotate(session, account_id, endpoint.id, SEAL) for _ in range(endpoints.OLD_SECRETS + 1)]
        assert old_secrets(endpoint) == made[-2 : -2 - endpoints.OLD_SECRETS : -1]
        endpoint.old_secret_until = now(session)
        endpoints.rotate(session, account_id, endpoint.id, SEAL)
        assert old_secrets(endpoint) == made[-1:]


def test_a_rotation_under_a_new_secret_key_keeps_nothing_that_does_not_open(
    database: Database, account_id: str
) -> None:
    changed = Seal("another key")
    with database.write() as session:
        endpoint = subscribe(session, account_id)
        endpoints.rotate(session, account_id, endpoint.id, SEAL)
        new = endpoints.rotate(session, account_id, endpoint.id, changed)
        assert endpoints.opened(changed, endpoint.secret, endpoint.id) == [new]
        assert (endpoint.old_secret, endpoint.old_secret_until) == (None, None)
    assert notices(database, endpoint)[-1] == ("rotated", "nothing signs beside the new secret")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/",
        "https://2130706433/",
        "https://localhost/hook",
        "http://93.184.216.34/hook",
        "ftp://93.184.216.34/hook",
        "https://user:pass@93.184.216.34/",
        "https://93.184.216.34:22/",
        "https://",
        "hook",
        "https://acme.example/\r\nX: y",
    ],
)
def test_a_url_that_nothing_will_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(UnsafeUrl) as caught:
        endpoints.check_url(url, allow_loopback=False)
    assert caught.value.pointer == "/url"


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", "\u00fc" * 70 + ".example"])
def test_a_host_that_cannot_be_a_name_is_refused_in_plain_words(host: str) -> None:
    with pytest.raises(UnsafeUrl) as caught:
        endpoints.check_url(f"https://{host}/hook", allow_loopback=False)
    assert str(caught.value) == "the host of the URL cannot be a name: its parts have 1 to 63 characters each"


def test_a_public_url_passes_and_in_development_loopback_does() -> None:
    endpoints.check_url("https://93.184.216.34/hook", allow_loopback=False)
    endpoints.check_url("http://127.0.0.1:8123/hook", allow_loopback=True)
    endpoints.check_url("https://no-such-host.invalid/hook", allow_loopback=False)


def test_an_account_sees_its_own_until_it_deletes_them(database: Database, account_id: str) -> None:
    with database.write() as session:
        other = accounts.create_account(session, "other").id
        kept, gone = subscribe(session, account_id), subscribe(session, account_id)
        endpoints.delete(session, account_id, gone.id)
        assert [row.id for row in endpoints.of_account(session, account_id)] == [kept.id]
        assert endpoints.of_account(session, other) == []
        assert (gone.secret, gone.old_secret) == (b"", None)
        for owner, endpoint in ((other, kept), (account_id, gone)):
            for act in (endpoints.get, endpoints.delete, endpoints.enable, endpoints.change):
                with pytest.raises(NotFound):
                    act(session, owner, endpoint.id)
            with pytest.raises(NotFound):
                endpoints.rotate(session, owner, endpoint.id, SEAL)
            with pytest.raises(NotFound):
                endpoints.notices(session, owner, endpoint.id, 10)


def test_what_is_changed_changes_alone(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id)
        secret, kinds = endpoint.secret, endpoint.events
        endpoints.change(session, account_id, endpoint.id, url=f"{URL}/2")
        assert (endpoint.url, endpoint.events, endpoint.secret) == (f"{URL}/2", kinds, secret)
        endpoints.change(session, account_id, endpoint.id, events=[EventType.JOB_ENDED], description="ours")
        assert (endpoint.url, endpoint.events, endpoint.description) == (f"{URL}/2", ["job.ended"], "ours")


def test_disabling_and_enabling_leave_their_notices(database: Database, account_id: str) -> None:
    with database.write() as session:
        endpoint = subscribe(session, account_id)
        for _ in range(2):
            endpoints.disable(session, endpoint, DisabledReason.FAILING, "every try has failed")
        with pytest.raises(EndpointDisabled, match="failing"):
            endpoints.get_enabled(session, account_id, endpoint.id)
        for _ in range(2):
            endpoints.enable(session, account_id, endpoint.id)
        assert endpoints.get_enabled(session, account_id, endpoint.id).disabled_reason is None
    assert notices(database, endpoint)[1:] == [("disabled", "every try has failed"), ("enabled", "by the account")]


def test_an_account_has_no_more_than_it_may(database: Database, account_id: str) -> None:
    with database.write() as session:
        for _ in range(endpoints.MOST):
            last = subscribe(session, account_id)
        with pytest.raises(TooManyEndpoints):
            subscribe(session, account_id)
        endpoints.delete(session, account_id, last.id)
        subscribe(session, account_id)
