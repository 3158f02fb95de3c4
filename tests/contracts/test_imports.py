"""The layers of pyproject.toml hold over the real import graph, cover every package, and bite."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import PROJECT

CONFIG = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    for package in CONFIG["root_packages"]:
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=lambda _, names: {*names} & {"__pycache__"})
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_package_of_the_root_stands_under_the_contracts() -> None:
    outside = {"tests", "benchmarks", "chaos"}  # they stand beside the system and may look at all of it
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - outside
    assert packages == set(CONFIG["root_packages"])


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("api", "import onnxruntime"),
        ("api", "import worker"),
        ("pipeline", "import sqlalchemy"),
        ("shield", "import flask"),
        ("training", "import shield"),
        ("worker", "import training"),
    ],
)
def test_given_a_forbidden_import_then_a_contract_breaks(copied_tree: Path, package: str, line: str) -> None:
    before = lint_imports(copied_tree)
    assert before.returncode == 0, before.stdout + before.stderr
    (copied_tree / package / "stray.py").write_text(f"{line}\n")
    after = lint_imports(copied_tree)
    assert after.returncode == 1
    assert f"{package}.stray" in after.stdout
