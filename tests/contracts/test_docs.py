"""Documentation as a tested contract: what is not written down does not exist."""

import re
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from shield import __main__ as operator
from shield.settings import Settings
from training.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "settings.md").read_text()
ROWS = dict(re.findall(r"^\| `SHIELD_([A-Z0-9_]+)` \| (.+?) \|", PAGE, re.MULTILINE))


def shown(default: object) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{text}`" if text else "empty"


def test_every_setting_is_documented_with_its_default() -> None:
    expected = {name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}
    assert {name: default for name, default in ROWS.items() if name != "DATA"} == expected


def test_the_state_charts_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    operator.print_states()
    assert capsys.readouterr().out == (ROOT / "docs" / "states.md").read_text()


def test_every_target_of_the_makefile_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`make ([a-z-]+)`", (ROOT / "README.md").read_text()))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "up"} <= named <= targets


def test_make_help_lists_every_target_that_says_what_it_does() -> None:
    described = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    answer = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^  make ([a-z-]+) ", answer.stdout, re.MULTILINE) == described
    assert {"demo", "test", "train-smoke", "evaluate"} <= set(described)


def test_every_training_command_is_described() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| \S", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)


def test_links_between_pages_lead_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        ROOT / "samples" / "README.md",
    ]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_proof_that_the_threats_page_names_is_a_test() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "threats.md").read_text())
    assert len(named) >= 30
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
