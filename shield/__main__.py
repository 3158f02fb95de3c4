"""The operator's command: `python -m shield up` starts the system; `key` and `link` let people in."""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from shield import accounts, states, supervisor
from shield.db import Database
from shield.errors import NotFound, ShieldError
from shield.settings import Settings, settings

FIRST_ACCOUNT = "default"


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m shield", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starter = commands.add_parser("up", help="start the whole system; Ctrl-C stops it")
    starter.add_argument("--key-file", type=Path, metavar="PATH", help="write a new API key there, for scripts")
    commands.add_parser("migrate", help="bring the database's tables to the newest version")
    commands.add_parser("key", help="print a new API key of the first account")
    commands.add_parser("link", help="print a new one-time link that opens a browser session")
    commands.add_parser("states", help="print the state charts, as in docs/states.md")
    args = parser.parse_args(argv)
    try:
        if args.command == "states":
            print_states()
            return 0
        config = settings()
        if args.command == "up":
            up(config, args.key_file)
        elif args.command == "migrate":
            supervisor.make_home(config.home)
            supervisor.migrate(config.database)
        elif args.command == "key":
            print(new_key(config))
        else:
            print(new_link(config, base_url(config)))
    except ShieldError as error:
        print(f"shield: {error}", file=sys.stderr)
        return 2
    return 0


def up(config: Settings, key_file: Path | None) -> None:
    """Run the stack until it is stopped. Raises SettingsError when it cannot be started here."""
    stack = supervisor.Stack(config, say)
    supervisor.migrate(config.database)
    key = first_key(config) if key_file is None else new_key(config)
    if key_file is not None and key is not None:
        key_file.touch(mode=0o600)
        key_file.chmod(0o600)  # an older file may have had another mode
        key_file.write_text(key)

    def announce() -> None:
        say(f"Deepfake Shield is up at {stack.url}")
        if key is not None and key_file is None:
            say(f"API key, shown this once: {key}")
        say(f"open in a browser, once, within {accounts.LINK_MINUTES} minutes: {new_link(config, stack.url)}")
        say(f"logs are in {stack.home / 'logs'}; Ctrl-C stops it")

    stack.run(announce)


def first_key(config: Settings) -> str | None:
    """On the first start, the first account and its key; None when there is an account already."""
    database = Database(config.database)
    with contextlib.closing(database), database.write() as session:
        if accounts.first_account(session) is not None:
            return None
        return accounts.create_key(session, accounts.create_account(session, FIRST_ACCOUNT).id)


def new_key(config: Settings) -> str:
    """Another key of the first account, which is made if there is none."""
    database = Database(config.database)
    with contextlib.closing(database), database.write() as session:
        account = accounts.first_account(session) or accounts.create_account(session, FIRST_ACCOUNT)
        return accounts.create_key(session, account.id)


def new_link(config: Settings, url: str) -> str:
    """A one-time link of the first account. Raises NotFound when there is none."""
    database = Database(config.database)
    with contextlib.closing(database), database.write() as session:
        account = accounts.first_account(session)
        if account is None:
            raise NotFound("there is no account yet: `python -m shield up` makes the first")
        return f"{url}/session/{accounts.create_link(session, account.id)}"


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
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
