"""Make a virtual environment that equals a lock, or leave it as it is when it already does.

    python scripts/install.py FOLDER requirements/NAME.txt NOTE             a folder of this checkout
    python scripts/install.py FOLDER requirements/NAME.txt NOTE --cached    a link into the cache that checkouts share

The environment's key is a hash of the lock, the Python and the machine's kind; it is written into the environment last,
so that a half-made one is never taken for whole. A file lock lets two makes run at the same time: the second waits.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STAMP = "shield-lock-key"
IDLE_DAYS = 14  # a cached environment of an older lock is removed when nobody used it for so long


def key_of(lock: Path) -> str:
    """Name what is installed: the lock's text, the Python and the machine's kind; 16 hexadecimal digits."""
    parts = [lock.read_text(), sys.version, sys.base_prefix, platform.system(), platform.machine()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def is_whole(folder: Path, key: str) -> bool:
    """Tell whether the environment in this folder was made to its end from what the key names."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text() == key and (folder / "bin" / "python").exists()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's file lock: one process makes it, others wait. The system frees it when its holders are gone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as handle:
        os.set_inheritable(handle.fileno(), True)  # a pip that outlives this process holds it too
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder.name}: another process is making it; waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def make(folder: Path, lock: Path, key: str, note: str) -> None:
    """Make the environment afresh and install exactly what the lock names, every file checked against its hash."""
    say(f"{folder.name}: installing {lock} ({note})")
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]
    # --no-deps: the lock is complete, so there is nothing to resolve.
    install = [*pip, "install", "--no-deps", "--require-hashes", "--requirement", str(lock)]
    subprocess.run(install, check=True, close_fds=False)
    (folder / STAMP).write_text(key)
    say(f"{folder.name}: ready after {time.monotonic() - start:.0f} s")


def cache_home() -> Path:
    """Give the folder in which cached environments live, outside any checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepfake-shield"


def link(folder: Path, target: Path) -> None:
    """Let the folder's name point at the target in one step, whatever stood there before."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(folder)


def remove_idle(name: str, keep: Path) -> None:
    """Remove cached environments of this name that no checkout used for IDLE_DAYS."""
    for stamp in keep.parent.glob(f"{name}-*/{STAMP}"):
        if stamp.parent != keep and time.time() - stamp.stat().st_mtime > IDLE_DAYS * 86_400:
            shutil.rmtree(stamp.parent, ignore_errors=True)


def say(line: str) -> None:
    """Print one line at once, also when the output is a file."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Bring one environment in step with its lock; the exit code is pip's."""
    parser = argparse.ArgumentParser(description="Make a virtual environment that equals a lock.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("lock", type=Path)
    parser.add_argument("note", help="how long it may take, for the one line that is printed")
    parser.add_argument("--cached", action="store_true")
    args = parser.parse_args()
    key = key_of(args.lock)
    home = cache_home() / f"{args.lock.stem}-{key}" if args.cached else args.folder
    try:
        with alone(home):
            if not is_whole(home, key):
                make(home, args.lock, key, args.note)
            if args.cached:
                (home / STAMP).touch()
                link(args.folder, home)
                remove_idle(args.lock.stem, keep=home)
    except subprocess.CalledProcessError as error:
        say(f"{home.name}: pip could not install {args.lock}; its last lines are above. Mend that and run make again.")
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
