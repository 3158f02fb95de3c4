"""The operator's commands on accounts: keys, links, people, grants of S3 prefixes, and the audit log."""

import argparse
import contextlib
import getpass
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from shield import accounts, audit, buckets, moderators, names, sessions
from shield.db import Database
from shield.errors import NotFound, StorageUnavailable
from shield.models import Account, ApiKey, BrowserSession
from shield.settings import Settings
from shield.states import Role, Scope

FIRST_ACCOUNT = "default"
PEOPLE = {
    "add": "make a moderator",
    "password": "give a moderator another password, and end their sessions",
    "role": "let a moderator do more, or less",
    "disable": "lock a moderator out, and end their sessions",
    "enable": "let a moderator in again",
}
ENTRIES = 50  # of the audit log that are shown

Command = Callable[[Settings, argparse.Namespace], Iterable[str]]


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands; each sets `run`, a Command whose lines are to be printed."""

    def new(name: str, run: Command, about: str, account: str | None = "?") -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=about, description=about)
        if account is not None:
            text = "its name or id" if account == "" else "its name or id; default: the first account"
            parser.add_argument("account", nargs=account or None, default="", metavar="ACCOUNT", help=text)
        parser.set_defaults(run=run)
        return parser

    new("accounts", list_accounts, "list the accounts", account=None)
    new("account", add_account, "make an account", account=None).add_argument("name", metavar="NAME")
    key = new("key", make_key, "print a new API key")
    key.add_argument("--name", default="", help="what it is for, for people")
    key.add_argument("--scope", action="append", type=Scope, choices=list(Scope), help="may be repeated; default: all")
    key.add_argument("--days", type=_days, help="after which it expires; default: never")
    new("keys", list_keys, "list an account's API keys, without their secrets")
    revoke = new("revoke", revoke_key, "let an API key open nothing any more, from the next request on", account=None)
    revoke.add_argument("key", metavar="KEY_ID", help="as `keys` lists it")
    _add_people(new)
    allow = new("allow-s3", allow_s3, "let an account read a prefix of a bucket, or list what it may read", account="")
    allow.add_argument("url", nargs="?", metavar="s3://BUCKET/PREFIX/", help="end it with a slash to mean a folder")
    deny = new("deny-s3", deny_s3, "take back what allow-s3 gave", account="")
    deny.add_argument("url", metavar="s3://BUCKET/PREFIX/", help="as allow-s3 lists it")
    opened = new("sessions", browser_sessions, "list an account's browser sessions, or end some")
    opened.add_argument("--end", metavar="WHICH", help="an id as it lists them, `links` or `all`; lists what it ended")
    log = new("audit", audit_log, "verify the audit log, or print its newest entries", account=None)
    log.add_argument("what", choices=("verify", "show"))
    log.add_argument(
        "--contains", metavar="HASH", help="verify that an entry has this hash, printed by an earlier verify"
    )


def _add_people(new: Callable[..., argparse.ArgumentParser]) -> None:
    new("people", list_people, "list an account's moderators")
    person = new("person", change_person, "make a moderator, or change one", account=None)
    changes = person.add_subparsers(dest="what", required=True)
    for what, about in PEOPLE.items():
        change = changes.add_parser(what, help=about, description=about)
        change.add_argument("name", metavar="NAME")
        change.add_argument("--account", default="", metavar="ACCOUNT", help="default: the first one")
        if what in ("add", "role"):
            required, default = what == "role", Role.MODERATOR
            change.add_argument("--role", type=Role, choices=list(Role), required=required, default=default)
        if what in ("add", "password"):
            change.add_argument("--ask", action="store_true", help="ask for the password; default: make and print one")


def _days(given: str) -> float:
    """A number of days. Raises ArgumentTypeError, and ValueError, which argparse tells likewise."""
    days = float(given)
    if not accounts.LEAST_DAYS <= days <= accounts.MOST_DAYS:  # so is no number
        raise argparse.ArgumentTypeError(f"give {accounts.LEAST_DAYS} to {accounts.MOST_DAYS} days")
    return days


@contextlib.contextmanager
def reading(config: Settings) -> Iterator[Session]:
    """A look at the tables, which waits for no writer. Raises NotFound before the first start, when there are none."""
    with _opened(config) as database, database.read() as session:
        yield session


@contextlib.contextmanager
def writing(config: Settings) -> Iterator[Session]:
    """One transaction on the tables. Raises NotFound before the first start, when there are none."""
    with _opened(config) as database, database.write() as session:
        yield session


@contextlib.contextmanager
def _opened(config: Settings) -> Iterator[Database]:
    with contextlib.closing(Database(config.database)) as database:
        try:
            with database.read() as session:
                made = inspect(session.connection()).has_table("account")
        except StorageUnavailable as error:
            raise NotFound(f"{error}. Before the first start, start the system once: `python -m shield up`") from error
        if not made:
            raise NotFound("nothing is set up here yet: start the system once with `python -m shield up`")
        yield database


def account_id(session: Session, name: str) -> str:
    """The account of this name or id; of none, the first. Raises NotFound."""
    if name:
        return accounts.find(session, name).id
    first = accounts.first_account(session)
    if first is None:
        raise NotFound("there is no account yet: `python -m shield up` makes the first")
    return first.id


def first_key(config: Settings) -> str | None:
    """On the first start, the first account and its key; None when there is an account already."""
    with writing(config) as session:
        audit.lock(session)
        if accounts.first_account(session) is not None:
            return None
        return accounts.create_key(session, accounts.create_account(session, FIRST_ACCOUNT).id)


def new_key(config: Settings) -> str:
    """Another key of the first account, which is made if there is none."""
    with writing(config) as session:
        audit.lock(session)
        account = accounts.first_account(session) or accounts.create_account(session, FIRST_ACCOUNT)
        return accounts.create_key(session, account.id)


def new_link(config: Settings, url: str) -> str:
    """A one-time link of the first account. Raises NotFound when there is none."""
    with writing(config) as session:
        return f"{url}/session/{accounts.create_link(session, account_id(session, ''))}"


def list_accounts(config: Settings, _: argparse.Namespace) -> list[str]:
    """Each account's id and name."""
    with reading(config) as session:
        rows = session.scalars(select(Account).order_by(Account.id))
        return [f"{row.id}  {row.name}" for row in rows]


def add_account(config: Settings, args: argparse.Namespace) -> list[str]:
    """A new account's id. Raises InvalidSubmission."""
    with writing(config) as session:
        return [accounts.create_account(session, args.name).id]


def make_key(config: Settings, args: argparse.Namespace) -> list[str]:
    """A new key; on an installation without an account, its first account's. Raises NotFound, InvalidSubmission."""
    name = names.check(args.name, "a key") if args.name else ""
    if not args.account and not args.scope and args.days is None and not args.name:
        return [new_key(config)]
    with writing(config) as session:
        owner = account_id(session, args.account)
        return [accounts.create_key(session, owner, name, args.scope or tuple(Scope), args.days)]


def list_keys(config: Settings, args: argparse.Namespace) -> list[str]:
    """A line a key. Raises NotFound."""
    with reading(config) as session:
        return [_key_line(row) for row in accounts.keys(session, account_id(session, args.account))]


def _key_line(row: ApiKey) -> str:
    ends = f"revoked {_day(row.revoked_at)}" if row.revoked_at else f"expires {_day(row.expires_at)}"
    words = (row.id, f"...{row.hint}", " ".join(row.scopes), f"used {_day(row.used_at)}", ends, row.name)
    return "  ".join(words).rstrip()


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else moment.isoformat(timespec="minutes")


def revoke_key(config: Settings, args: argparse.Namespace) -> list[str]:
    """Which key was revoked. Raises NotFound."""
    with writing(config) as session:
        row = session.get(ApiKey, args.key)
        if row is None:
            raise NotFound(f"there is no API key {args.key!r}: `python -m shield keys` lists them")
        return [_key_line(accounts.revoke_key(session, row.account_id, row.id))]


def list_people(config: Settings, args: argparse.Namespace) -> list[str]:
    """A line a moderator. Raises NotFound."""
    with reading(config) as session:
        rows = moderators.of_account(session, account_id(session, args.account))
        return [f"{row.id}  {row.name}  {row.role}{'  disabled' if row.disabled_at else ''}" for row in rows]


def change_person(config: Settings, args: argparse.Namespace) -> list[str]:
    """What came of it, and a password that was made. Raises NotFound, InvalidSubmission."""
    password, lines, hashed = "", [], ""
    if args.what in ("add", "password"):
        password = getpass.getpass(f"password of {args.name}: ") if args.ask else moderators.new_password()
        lines = [] if args.ask else [f"password, shown this once: {password}"]
        hashed = moderators.hash_password(password)
    with writing(config) as session:
        owner = account_id(session, args.account)
        if args.what == "add":
            row = moderators.create(session, owner, args.name, hashed, args.role, audit.OPERATOR)
            return [f"{row.id}  {row.name}  {row.role}", *lines]
        row = moderators.find(session, owner, args.name)
        if args.what == "password":
            moderators.set_password(session, row, hashed, audit.OPERATOR)
        elif args.what == "role":
            moderators.set_role(session, row, args.role, audit.OPERATOR)
        else:
            moderators.set_disabled(session, row, args.what == "disable", audit.OPERATOR)
        return [f"{row.id}  {row.name}  {row.role}{'  disabled' if row.disabled_at else ''}", *lines]


def browser_sessions(config: Settings, args: argparse.Namespace) -> list[str]:
    """A line a session that is not over; or that was ended. Raises NotFound."""
    if args.end is None:
        with reading(config) as session:
            return [_session_line(row, name) for row, name in _sessions(session, args)]
    with writing(config) as session:
        chosen = [
            (row, name)
            for row, name in _sessions(session, args)
            if args.end in (row.id, "all") or (args.end == "links" and name is None)
        ]
        if not chosen:
            raise NotFound(f"there is no such session as {args.end!r}: without --end they are listed")
        sessions.end(session, chosen[0][0].account_id, [row.id for row, _ in chosen], audit.OPERATOR)
        return [_session_line(row, name) for row, name in chosen]


def _sessions(session: Session, args: argparse.Namespace) -> list[tuple[BrowserSession, str | None]]:
    return sessions.of_account(session, account_id(session, args.account))


def _session_line(row: BrowserSession, name: str | None) -> str:
    return f"{row.id}  opened {_day(row.opened_at)}  expires {_day(row.expires_at)}  {name or 'by a link'}"


def allow_s3(config: Settings, args: argparse.Namespace) -> list[str]:
    """What an account may read in S3, after this URL, if any, was added. Raises NotFound, InvalidSubmission."""
    with writing(config) as session:
        owner = account_id(session, args.account)
        if args.url is not None:
            buckets.grant(session, owner, buckets.parse_s3_prefix(args.url))
            audit.note(session, audit.Action.BUCKET_GRANTED, audit.OPERATOR, owner, url=args.url)
        return [place.url for place in buckets.grants(session, owner)]


def deny_s3(config: Settings, args: argparse.Namespace) -> list[str]:
    """Take a grant back. Raises NotFound when there is none of exactly this URL, and InvalidSubmission."""
    with writing(config) as session:
        owner = account_id(session, args.account)
        if not buckets.revoke(session, owner, buckets.parse_s3_prefix(args.url)):
            ask = f"`python -m shield allow-s3 {args.account}` lists them"
            raise NotFound(f"{args.account} has no grant of exactly {args.url}: {ask}")
        audit.note(session, audit.Action.BUCKET_DENIED, audit.OPERATOR, owner, url=args.url)
    return []


def audit_log(config: Settings, args: argparse.Namespace) -> list[str]:
    """How many entries follow one from another, and the newest hash; or the newest entries. Raises AuditBroken."""
    with reading(config) as session:
        if args.what == "verify":
            entries, head = audit.verify(session, args.contains)
            return [f"{entries} entries, each follows from the one before it; the newest has the hash", head]
        rows = reversed(audit.newest(session, None, ENTRIES))
        return [
            f"{row.number}  {row.at:%Y-%m-%dT%H:%M:%SZ}  {row.actor}  {row.action}  {row.target}  {row.detail}"
            for row in rows
        ]


def base_url(config: Settings) -> str:
    """Where the stack on this HOME answers, else where the settings say that it would."""
    try:
        return str(json.loads((config.home / "up.json").read_text())["url"])
    except FileNotFoundError:
        return f"http://{config.host}:{config.port}"
