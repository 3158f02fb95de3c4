"""Rules for every test, in the dev environment and in the training one: pytest is all that this file may import.

Sockets reach loopback and Unix addresses only: see `addopts` in pyproject.toml.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of third-party photos that are measured against, never committed: SHIELD_DATA, or ../shared/data."""
    folder = PROJECT / os.environ.get("SHIELD_DATA", "../shared/data")
    if not (folder / "README.md").is_file():
        pytest.skip(f"The data folder {folder} is not here. Set SHIELD_DATA to the folder that holds its README.md.")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one in CI, where everything that a test needs has been installed."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which is a failure in CI: {reason_of(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a module that skips itself into a failure in CI."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, which is a failure in CI: {reason_of(report)}"
    return report


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Give the text that was passed to skip."""
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
