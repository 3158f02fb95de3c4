"""Each lock holds what pyproject.toml asks for, and the tree names no package index."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import PROJECT

LOCKED = ("runtime", "dev", "gpu", "training", "baselines")
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(?P<version>[^\s;]+)", re.MULTILINE)
INDEX_HOSTS = re.compile(r"\b(?:pypi|pythonhosted|npmjs|debian|anaconda)\.(?:org|com|net)\b")
INDEX_OPTIONS = re.compile(r"^\s*(?:-i|-f|--(?:extra-)?index-url|--find-links|--trusted-host)\b", re.MULTILINE)


def requirements_of(group: str) -> list[Requirement]:
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]
    found = []
    for entry in groups[group]:
        found += requirements_of(entry["include-group"]) if isinstance(entry, dict) else [Requirement(entry)]
    return found


def pins_of(group: str) -> dict[str, str]:
    return {pin["name"]: pin["version"] for pin in PIN.finditer(lock_text(group))}


def lock_text(group: str) -> str:
    return (PROJECT / "requirements" / f"{group}.txt").read_text()


@pytest.mark.parametrize("group", LOCKED)
def test_a_lock_holds_a_fitting_version_of_every_direct_dependency(group: str) -> None:
    pins = pins_of(group)
    wrong = [
        f"{requirement} (locked: {pins.get(canonicalize_name(requirement.name), 'no version')})"
        for requirement in requirements_of(group)
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]
    assert not wrong, f"requirements/{group}.txt is behind pyproject.toml: run `make lock`"


@pytest.mark.parametrize("group", LOCKED)
def test_every_pin_of_a_lock_carries_a_hash(group: str) -> None:
    entries = re.split(r"\n(?=[a-z])", lock_text(group).strip())
    bare = [entry.splitlines()[0] for entry in entries if PIN.match(entry) and "--hash=sha256:" not in entry]
    assert pins_of(group)
    assert not bare


def test_tests_run_on_the_versions_that_the_system_runs_on() -> None:
    dev = pins_of("dev")
    assert {name: dev.get(name) for name in pins_of("runtime")} == pins_of("runtime")


def test_what_cuda_needs_replaces_no_version_that_the_system_runs_on() -> None:
    runtime, gpu = pins_of("runtime"), pins_of("gpu")
    both = runtime.keys() & gpu.keys()
    assert "numpy" in both
    assert {name: gpu[name] for name in both} == {name: runtime[name] for name in both}


def test_no_file_of_the_tree_names_a_package_index() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    files = [PROJECT / name for name in listed.stdout.decode().split("\0") if name]
    assert files
    named = [
        f"{path.relative_to(PROJECT)}: {hit.group()}"
        for path in files
        if path.is_file() and (text := text_of(path)) is not None
        for hit in INDEX_HOSTS.finditer(text)
    ]
    assert not named


@pytest.mark.parametrize("group", LOCKED)
def test_a_lock_leaves_the_index_to_the_machine(group: str) -> None:
    assert not INDEX_OPTIONS.search(lock_text(group))


def text_of(path: Path) -> str | None:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return None
