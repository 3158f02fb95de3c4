"""The operator's command: `python -m shield up` starts the system; `key` and `link` let people in."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from shield import accounts, buckets, states, supervisor
from shield.db import Database
from shield.errors import NotFound, SettingsError, ShieldError, StorageUnavailable
from shield.settings import Settings, settings

FIRST_ACCOUNT = "default"


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m shield", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starter = commands.add_parser("up", help="start the whole system; Ctrl-C stops it")
    starter.add_argument("--key-file", type=Path, metavar="PATH", help="write a new API key there, for scripts")
    starter.add_argument("--while-stdin", action="store_true", help=argparse.SUPPRESS)  # stop when stdin is closed
    commands.add_parser("migrate", help="bring the database's tables to the newest version")
    commands.add_parser("key", help="print a new API key of the first account")
    commands.add_parser("link", help="print a new one-time link that opens a browser session")
    allower = commands.add_parser("allow-s3", help="let an account read a prefix of a bucket, or list what it may read")
    allower.add_argument("account", metavar="ACCOUNT", help="its name or id; the first account is `default`")
    allower.add_argument("url", nargs="?", metavar="s3://BUCKET/PREFIX/", help="end it with a slash to mean a folder")
    denier = commands.add_parser("deny-s3", help="take back what allow-s3 gave")
    denier.add_argument("account", metavar="ACCOUNT")
    denier.add_argument("url", metavar="s3://BUCKET/PREFIX/", help="as allow-s3 lists it")
    commands.add_parser("states", help="print the state charts, as in docs/states.md")
    args = parser.parse_args(argv)
    os.umask(0o077)  # everything that is kept is for this user alone
    try:
        if args.command == "states":
            print_states()
            return 0
        config = settings()
        if args.command == "up":
            up(config, args.key_file, sys.stdin.fileno() if args.while_stdin else None)
        elif args.command == "migrate":
            supervisor.make_home(config.home)
            supervisor.migrate(config.database)
        elif args.command == "key":
            print(new_key(config))
        elif args.command == "allow-s3":
            print(*allow_s3(config, args.account, args.url), sep="\n")
        elif args.command == "deny-s3":
            deny_s3(config, args.account, args.url)
        else:
            print(new_link(config, base_url(config)))
    except ShieldError as error:
        print(f"shield: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("shield: stopped before it had started", file=sys.stderr)
        return 130
    return 0


def up(config: Settings, key_file: Path | None, leash: int | None) -> None:
    """Run the stack until it is stopped, or `leash` is closed. Raises SettingsError when it cannot be started here."""
    stack = supervisor.Stack(config, say)
    supervisor.migrate(config.database)
    if key_file is not None:
        write_key(config, key_file)

    def announce() -> None:
        say(f"Deepfake Shield is up at {stack.url}")
        key = first_key(config)  # made where it is shown: a start that is interrupted loses none
        if key is not None:
            say(f"API key, shown this once: {key}")
        say(f"open in a browser, once, within {accounts.LINK_MINUTES} minutes: {new_link(config, stack.url)}")
        say(f"logs are in {stack.home / 'logs'}; Ctrl-C stops it")
        if stack.ailing:
            say(f"but not all of it works: {', '.join(stack.ailing)} died since the start, see above")

    stack.run(announce, leash)


def write_key(config: Settings, path: Path) -> None:
    """Write a new key into this file. Raises SettingsError when it cannot be written."""
    try:
        path.touch(mode=0o600)
        path.chmod(0o600)  # an older file may have had another mode
        path.write_text(new_key(config))
    except OSError as error:
        raise SettingsError(f"the key cannot be written to {path} ({error.strerror}): see --key-file") from error


@contextlib.contextmanager
def writing(config: Settings) -> Iterator[Session]:
    """One transaction on the tables. Raises NotFound before the first start, when there are none."""
    with contextlib.closing(Database(config.database)) as database:
        try:
            with database.read() as session:
                made = inspect(session.connection()).has_table("account")
        except StorageUnavailable as error:
            raise NotFound(f"{error}. Before the first start, start the system once: `python -m shield up`") from error
        if not made:
            raise NotFound("nothing is set up here yet: start the system once with `python -m shield up`")
        with database.write() as session:
            yield session


def first_key(config: Settings) -> str | None:
    """On the first start, the first account and its key; None when there is an account already."""
    with writing(config) as session:
        if accounts.first_account(session) is not None:
            return None
        return accounts.create_key(session, accounts.create_account(session, FIRST_ACCOUNT).id)


def new_key(config: Settings) -> str:
    """Another key of the first account, which is made if there is none."""
    with writing(config) as session:
        account = accounts.first_account(session) or accounts.create_account(session, FIRST_ACCOUNT)
        return accounts.create_key(session, account.id)


def new_link(config: Settings, url: str) -> str:
    """A one-time link of the first account. Raises NotFound when there is none."""
    with writing(config) as session:
        account = accounts.first_account(session)
        if account is None:
            raise NotFound("there is no account yet: `python -m shield up` makes the first")
        return f"{url}/session/{accounts.create_link(session, account.id)}"


def allow_s3(config: Settings, account: str, url: str | None) -> list[str]:
    """What an account may read in S3, after this URL, if any, was added. Raises NotFound, InvalidSubmission."""
    with writing(config) as session:
        account_id = accounts.find(session, account).id
        if url is not None:
            buckets.grant(session, account_id, buckets.parse_s3_prefix(url))
        return [place.url for place in buckets.grants(session, account_id)]


def deny_s3(config: Settings, account: str, url: str) -> None:
    """Take a grant back. Raises NotFound when there is none of exactly this URL, and InvalidSubmission."""
    with writing(config) as session:
        account_id = accounts.find(session, account).id
        if not buckets.revoke(session, account_id, buckets.parse_s3_prefix(url)):
            raise NotFound(f"{account} has no grant of exactly {url}: `python -m shield allow-s3 {account}` lists them")


def base_url(config: Settings) -> str:
    """Where the stack on this HOME answers, else where the settings say that it would."""
    try:
        return str(json.loads((config.home / "up.json").read_text())["url"])
    except FileNotFoundError:
        return f"http://{config.host}:{config.port}"


def print_states() -> None:
    """Print docs/states.md."""
    print("# States\n\nGenerated from shield/states.py by `python -m shield states`: change the table, not this page.")
    for name in states.MACHINES:
        print(f"\n## {name}\n\n```mermaid\n{states.chart(name)}\n```")


def say(words: str) -> None:
    """Tell the person at the terminal, at once even when it is a pipe."""
    with contextlib.suppress(OSError):  # the terminal has gone, or the disk behind it is full: the system goes on
        print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
