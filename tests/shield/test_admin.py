"""The operator's commands on accounts, run as they are typed."""

import pytest

from shield import accounts, moderators
from shield.__main__ import main
from shield.db import Database
from shield.errors import Unauthorised
from shield.settings import settings


@pytest.fixture(autouse=True)
def installed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIELD_DATABASE_URL", url)
    settings.cache_clear()
    monkeypatch.setattr(settings, "cache_clear", settings.cache_clear)


def say(capsys: pytest.CaptureFixture[str], *line: str) -> list[str]:
    """What a command prints."""
    settings.cache_clear()
    assert main(list(line)) == 0, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


def test_keys_are_made_listed_and_revoked(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    [first] = say(capsys, "key")
    [owner] = say(capsys, "accounts")
    assert owner.endswith("default")
    [narrow] = say(capsys, "key", "--scope", "jobs:read", "--days", "7", "--name", "dashboard")
    lines = say(capsys, "keys")
    assert [line.split()[1] for line in lines] == [f"...{first[-4:]}", f"...{narrow[-4:]}"]
    assert "jobs:read  used never  expires 2" in lines[1]
    assert lines[1].endswith("dashboard")
    [revoked] = say(capsys, "revoke", lines[1].split()[0])
    assert "revoked 2" in revoked
    with database.read() as session, pytest.raises(Unauthorised):
        accounts.identify(session, narrow)
    assert first not in str(lines)


def test_an_account_has_keys_of_its_own(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "key")
    [acme] = say(capsys, "account", "acme")
    [key] = say(capsys, "key", "acme", "--scope", "jobs:write")
    with database.read() as session:
        assert accounts.identify(session, key).account_id == acme
    assert len(say(capsys, "keys")) == 1


def test_people_are_added_changed_and_locked_out(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "key")
    made, told = say(capsys, "person", "add", "robin", "--role", "lead")
    assert made.endswith("robin  lead")
    password = told.rpartition(" ")[2]
    assert moderators.sign_in(database, "robin", password).role == "lead"
    say(capsys, "person", "role", "robin", "--role", "moderator")
    _, told = say(capsys, "person", "password", "robin")
    assert moderators.sign_in(database, "robin", told.rpartition(" ")[2]).role == "moderator"
    say(capsys, "person", "disable", "robin")
    assert say(capsys, "people")[0].endswith("robin  moderator  disabled")
    with pytest.raises(Unauthorised):
        moderators.sign_in(database, "robin", told.rpartition(" ")[2])


def test_the_audit_log_is_verified_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "key")
    about, head = say(capsys, "audit", "verify")
    assert about.startswith("2 entries")
    say(capsys, "link")
    assert say(capsys, "audit", "verify", "--contains", head)[0].startswith("3 entries")
    assert [line.split()[3] for line in say(capsys, "audit", "show")] == [
        "account.created",
        "key.created",
        "link.created",
    ]
    assert main(["audit", "verify", "--contains", "0" * 63 + "1"]) == 2
    assert "no entry has the hash" in capsys.readouterr().err


def test_what_is_unknown_says_how_to_find_it(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["keys", "nobody"], ["revoke", "key_1"], ["person", "disable", "nobody"], ["keys"]):
        assert main(line) == 2
    assert "python -m shield" in capsys.readouterr().err
