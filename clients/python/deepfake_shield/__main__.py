"""The command `deepfake-shield`: send images to a Deepfake Shield server and read the verdicts.

Exit codes: 0 done; 1 an error, told on stderr; 2 wrong usage; 3 something that --fail-on names was found.
"""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator

from deepfake_shield.client import DEFAULT_URL, Shield
from deepfake_shield.errors import ShieldError
from deepfake_shield.progress import Progress
from deepfake_shield.receiver import Receiver
from deepfake_shield.results import Job, Result
from deepfake_shield.tables import VERDICTS, WRITERS, summary, write_jobs
from deepfake_shield.version import VERSION

SECRET = "DEEPFAKE_SHIELD_WEBHOOK_SECRET"  # noqa: S105 the name of a variable
DONE, FAILED, FOUND, INTERRUPTED = 0, 1, 3, 130

Command = Callable[[Shield, argparse.Namespace, Progress], int]


def scan(shield: Shield, args: argparse.Namespace, progress: Progress) -> int:
    """Submit, and wait for the results unless told not to."""
    jobs: list[str] = []
    try:
        for job in shield.submit_all(args.path, name=args.name, on_upload=progress.upload):
            jobs.append(job.id)
            progress.note(f"{job.id}: {job.counts.total} image{'s' if job.counts.total != 1 else ''} accepted")
        if not args.wait:
            print(*jobs, sep="\n")
            return DONE
        shield.wait_all(jobs, progress.scan)
    except (KeyboardInterrupt, ShieldError):
        for accepted in jobs:
            progress.note(f"{accepted} goes on; read it with: deepfake-shield results {accepted}")
        raise
    return _write(shield, jobs, args, progress)


def results(shield: Shield, args: argparse.Namespace, progress: Progress) -> int:
    """Write the results that a job has so far."""
    return _write(shield, [args.id], args, progress)


def _write(shield: Shield, jobs: list[str], args: argparse.Namespace, progress: Progress) -> int:
    found: list[str] = []

    def noted(each: Iterable[Result]) -> Iterator[Result]:
        for one in each:
            if (one.verdict or one.state) in args.fail_on:
                found.append(one.id)
            yield one

    progress.clear()
    WRITERS[args.format](noted(one for job in jobs for one in shield.results(job)), sys.stdout)
    return FOUND if found else DONE


def show_jobs(shield: Shield, args: argparse.Namespace, progress: Progress) -> int:
    """List the newest jobs."""
    newest = list(itertools.islice(shield.jobs(), args.limit))
    progress.clear()
    write_jobs(newest, sys.stdout)
    return DONE


def show_job(shield: Shield, args: argparse.Namespace, progress: Progress) -> int:
    """Tell how a job stands; with --wait, once it has ended."""
    _tell(shield.wait(args.id, progress.scan) if args.wait else shield.job(args.id), progress)
    return DONE


def cancel(shield: Shield, args: argparse.Namespace, progress: Progress) -> int:
    """Cancel what no worker holds yet."""
    _tell(shield.cancel(args.id), progress)
    return DONE


def retry(shield: Shield, args: argparse.Namespace, progress: Progress) -> int:
    """Make a new job of what failed; with --wait, follow it to its end."""
    job = shield.retry(args.id)
    progress.note(f"{job.id}: {job.counts.total} image{'s' if job.counts.total != 1 else ''} accepted")
    _tell(shield.wait(job.id, progress.scan) if args.wait else job, progress)
    return DONE


def delete(shield: Shield, args: argparse.Namespace, progress: Progress) -> int:
    """Delete a job that has ended."""
    shield.delete(args.id)
    progress.note(f"{args.id} is deleted")
    return DONE


def listen(args: argparse.Namespace, progress: Progress) -> int:
    """Receive webhooks until interrupted."""
    secret = args.secret or os.environ.get(SECRET) or None
    with Receiver(args.port, secret, lambda lines: print(lines, flush=True)) as receiver:
        progress.note(f"listening on {receiver.url}; Ctrl-C ends")
        with contextlib.suppress(KeyboardInterrupt):
            receiver.serve_forever()
    return DONE


def _tell(job: Job, progress: Progress) -> None:
    progress.clear()
    print(f"{job.id}  {job.state}  {job.counts.terminal} of {job.counts.total} images: {summary(job.counts)}")


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    root = argparse.ArgumentParser(
        prog="deepfake-shield", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root.add_argument("--url", help=f"the server; default DEEPFAKE_SHIELD_URL, else {DEFAULT_URL}")
    root.add_argument(
        "--key", help="the API key; default DEEPFAKE_SHIELD_KEY, which other users of the machine cannot see"
    )
    root.add_argument("--version", action="version", version=VERSION)
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    one = _add(commands, "scan", scan, "submit images, wait, and print the verdicts")
    one.add_argument("path", nargs="+", metavar="PATH", help="files, folders (searched for images) and http(s) URLs")
    one.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="else print the job's id")
    one.add_argument("--name", default="", help="a name for the job, for people")
    _add_output(one)

    one = _add(commands, "jobs", show_jobs, "list jobs, newest first")
    one.add_argument("--limit", type=_count, default=20, help="most jobs to list (default 20)")

    one = _add(commands, "job", show_job, "tell how a job stands")
    one.add_argument("id", metavar="ID")
    one.add_argument("--wait", action="store_true", help="until it has ended")

    one = _add(commands, "results", results, "print the results that a job has so far")
    one.add_argument("id", metavar="ID")
    _add_output(one)

    one = _add(commands, "cancel", cancel, "cancel what is not yet being scanned")
    one.add_argument("id", metavar="ID")

    one = _add(commands, "retry", retry, "scan the images that failed once more, in a new job")
    one.add_argument("id", metavar="ID")
    one.add_argument("--wait", action="store_true", help="until the new job has ended")

    one = _add(commands, "delete", delete, "delete a job that has ended, with its results and images")
    one.add_argument("id", metavar="ID")

    one = commands.add_parser("listen", help="receive webhooks on this machine: verify and print each")
    one.set_defaults(run=listen)
    one.add_argument("--port", type=int, default=8787, help="on 127.0.0.1 (default 8787)")
    one.add_argument(
        "--secret", metavar="whsec_...", help=f"the endpoint's; default {SECRET}, which other users cannot see"
    )
    return root


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: Command, text: str
) -> argparse.ArgumentParser:
    added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    added.set_defaults(run=run)
    return added


def _add_output(one: argparse.ArgumentParser) -> None:
    one.add_argument("--format", choices=tuple(WRITERS), default="table", help="default table")
    one.add_argument(
        "--fail-on",
        action="append",
        default=[],
        choices=(*VERDICTS, "failed"),
        help="exit with 3 when there is such a result; may be given several times",
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    args = parser().parse_args(argv)
    with Progress(sys.stderr) as progress:
        try:
            if args.run == listen:  # needs no server
                return listen(args, progress)
            with Shield(
                args.url, args.key, on_repeat=lambda error, seconds: _repeat(progress, error, seconds)
            ) as shield:
                code: int = args.run(shield, args, progress)
                sys.stdout.flush()
                return code
        except ShieldError as error:
            progress.note(f"deepfake-shield: {error}")
            return FAILED
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except KeyboardInterrupt:
            return INTERRUPTED


def _repeat(progress: Progress, error: ShieldError, seconds: float) -> None:
    progress.note(f"{error}; trying again in {seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
