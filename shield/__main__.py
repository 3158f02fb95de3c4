"""The operator's command: `python -m shield up` starts the system; `key` and `link` let people in."""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from shield import accounts, admin, names, states, supervisor
from shield.errors import InvalidSubmission, SettingsError, ShieldError
from shield.settings import Settings, settings


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m shield", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starter = commands.add_parser("up", help="start the whole system; Ctrl-C stops it")
    starter.add_argument("--key-file", type=Path, metavar="PATH", help="write a new API key there, for scripts")
    starter.add_argument("--while-stdin", action="store_true", help=argparse.SUPPRESS)  # stop when stdin is closed
    commands.add_parser("migrate", help="bring the database's tables to the newest version")
    commands.add_parser("link", help="print a new one-time link that opens a browser session")
    admin.add_parsers(commands)
    commands.add_parser("states", help="print the state charts, as in docs/states.md")
    args = parser.parse_args(argv)
    os.umask(0o077)  # everything that is kept is for this user alone
    try:
        check_encoding(sys.argv[1:] if argv is None else argv)
        if args.command == "states":
            print_states()
            return 0
        config = settings()
        if args.command == "up":
            up(config, args.key_file, sys.stdin.fileno() if args.while_stdin else None)
        elif args.command == "migrate":
            supervisor.make_home(config.home)
            supervisor.migrate(config.database)
        elif args.command == "link":
            print(admin.new_link(config, admin.base_url(config)))
        else:
            for line in args.run(config, args):
                print(names.shown(line))
    except ShieldError as error:
        print(f"shield: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("shield: stopped before it had started", file=sys.stderr)
        return 130
    return 0


def check_encoding(argv: list[str]) -> None:
    """Raises InvalidSubmission for an argument in another encoding: no database takes it."""
    for argument in argv:
        if not names.is_text(argument):
            raise InvalidSubmission(f"the argument {argument!r} is not UTF-8: set the terminal to it")


def up(config: Settings, key_file: Path | None, leash: int | None) -> None:
    """Run the stack until it is stopped, or `leash` is closed. Raises SettingsError when it cannot be started here."""
    stack = supervisor.Stack(config, say)
    supervisor.migrate(config.database)
    if key_file is not None:
        write_key(config, key_file)

    def announce() -> None:
        say(f"Deepfake Shield is up at {stack.url}")
        key = admin.first_key(config)  # made where it is shown: a start that is interrupted loses none
        if key is not None:
            say(f"API key, shown this once: {key}")
        say(f"open in a browser, once, within {accounts.LINK_MINUTES} minutes: {admin.new_link(config, stack.url)}")
        say(f"logs are in {stack.home / 'logs'}; Ctrl-C stops it")
        if stack.ailing:
            say(f"but not all of it works: {', '.join(stack.ailing)} died since the start, see above")

    stack.run(announce, leash)


def write_key(config: Settings, path: Path) -> None:
    """Write a new key into this file. Raises SettingsError when it cannot be written."""
    try:
        path.touch(mode=0o600)
        path.chmod(0o600)  # an older file may have had another mode
        path.write_text(admin.new_key(config))
    except OSError as error:
        raise SettingsError(f"the key cannot be written to {path} ({error.strerror}): see --key-file") from error


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
