"""The operator's commands on accounts, run as they are typed."""

import pytest
from sqlalchemy import text

from shield import accounts, db, moderators, sessions
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


def role(database: Database, name: str, password: str) -> str:
    """The role of somebody who signs in."""
    token = moderators.sign_in(database, name, password, "unknown")
    with database.read() as session:
        return sessions.current(session, token).role


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
    assert role(database, "robin", password) == "lead"
    say(capsys, "person", "role", "robin", "--role", "moderator")
    _, told = say(capsys, "person", "password", "robin")
    assert role(database, "robin", told.rpartition(" ")[2]) == "moderator"
    say(capsys, "person", "disable", "robin")
    assert say(capsys, "people")[0].endswith("robin  moderator  disabled")
    with pytest.raises(Unauthorised):
        role(database, "robin", told.rpartition(" ")[2])


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


def test_sessions_are_listed_and_ended(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "key")
    _, told = say(capsys, "person", "add", "robin")
    robin = moderators.sign_in(database, "robin", told.rpartition(" ")[2], "unknown")
    with database.write() as session:
        owner = sessions.current(session, robin).account_id
        made = [accounts.create_link(session, owner) for _ in range(3)]
    links = [accounts.spend_link(database, link, "unknown") for link in made]
    lines = say(capsys, "sessions")
    assert [line.split("  ")[-1] for line in lines] == ["robin", "by a link", "by a link", "by a link"]
    first = lines[1].split()[0]
    assert say(capsys, "sessions", "default", "--end", first) == lines[1:2]
    assert main(["sessions", "--end", first]) == 2
    assert "no such session" in capsys.readouterr().err
    assert say(capsys, "sessions", "--end", "links") == lines[2:]
    with database.read() as session:
        for token in links:
            with pytest.raises(Unauthorised):
                sessions.current(session, token)
    assert say(capsys, "sessions", "--end", "all") == say(capsys, "sessions") + lines[:1]


def test_a_role_is_changed_to_one_that_was_named(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "key")
    say(capsys, "person", "add", "robin", "--role", "lead")
    with pytest.raises(SystemExit):
        main(["person", "role", "robin"])
    assert "--role" in capsys.readouterr().err
    assert say(capsys, "people")[0].endswith("robin  lead")


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "0", "1e9", "soon"])
def test_a_key_of_days_that_are_none_is_refused(capsys: pytest.CaptureFixture[str], days: str) -> None:
    say(capsys, "key")
    with pytest.raises(SystemExit):
        main(["key", f"--days={days}"])
    assert "--days" in capsys.readouterr().err
    assert len(say(capsys, "keys")) == 1


@pytest.mark.parametrize(
    "line",
    [
        ["account", "default"],
        ["account", ""],
        ["account", "\udcff"],
        ["keys", "\udcff"],
        ["person", "add", "\udcff"],
        ["person", "add", "\x1b[2J"],
        ["key", "--name", "\x1b[2J"],
        ["key", "--name", "x" * 201],
    ],
)
def test_a_name_that_is_none_is_refused_in_a_line(capsys: pytest.CaptureFixture[str], line: list[str]) -> None:
    say(capsys, "key")
    assert main(line) == 2
    told = capsys.readouterr().err
    assert told.startswith("shield: ")
    assert len(told.splitlines()) == 1


def test_what_a_terminal_would_obey_is_escaped(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "key")
    with database.write() as session:
        first = accounts.first_account(session)
        assert first is not None
        accounts.create_key(session, first.id, "\x1b[2J\r\nkey_0  \u202e\u00fc")
    capsys.readouterr()
    [_, line] = say(capsys, "keys")
    assert line.endswith("\\x1b[2J\\r\\nkey_0  \\u202e\u00fc")


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_who_only_looks_waits_for_no_writer(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say(capsys, "key")
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.1)
    with database.write() as session:
        session.execute(text("select 1"))
        for line in (["accounts"], ["keys"], ["people"], ["sessions"], ["audit", "verify"], ["audit", "show"]):
            say(capsys, *line)
        assert main(["account", "acme"]) == 2
    assert "locked" in capsys.readouterr().err
