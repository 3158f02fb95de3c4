"""docs/webhooks.md: its verifiers run as they stand, and its tables are those of the code."""

import base64
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shield.settings import Settings
from shield.states import DeliveryState, EventType
from worker.deliver import signed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "webhooks.md").read_text()
OLD, NEW, OTHER = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"o", b"n", b"x"))
BODY = '{"type":"job.ended","data":{"name":"Ferien\n\nin Köln","sequence":1}}'
PROGRAMS = {"python": [sys.executable], "js": ["node"]}


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The page's verifier in one language, as a program."""
    if shutil.which(PROGRAMS[request.param][0]) is None:
        pytest.skip("node is not installed: the Node verifier of docs/webhooks.md is not run")
    path = tmp_path / f"verify.{request.param}"
    path.write_text(block(request.param))
    return [*PROGRAMS[request.param], str(path)]


def accepts(
    program: list[str], secret: str, secrets: list[str], *, sent: str = BODY, age: timedelta = timedelta()
) -> bool:
    """Whether a program that holds `secret` takes a request that was signed with `secrets`."""
    headers = signed("evt_1", BODY, secrets, datetime.now(UTC) - age)
    head = "".join(f"{name}: {value}\n" for name, value in headers.items())
    env = os.environ | {"WEBHOOK_SECRET": secret}
    ended = subprocess.run(program, input=f"{head}\n{sent}".encode(), env=env, capture_output=True, check=False)
    assert ended.stderr == b""
    return ended.returncode == 0


def test_the_verifiers_take_what_is_genuine_also_during_a_rotation(program: list[str]) -> None:
    assert accepts(program, NEW, [NEW])
    assert accepts(program, NEW, [NEW, OLD])
    assert accepts(program, OLD, [NEW, OLD])


def test_the_verifiers_refuse_what_is_forged_or_old(program: list[str]) -> None:
    assert not accepts(program, OTHER, [NEW, OLD])
    assert not accepts(program, NEW, [NEW], sent=BODY.replace("1", "2"))
    assert not accepts(program, NEW, [NEW], age=timedelta(minutes=6))
    assert not accepts(program, NEW, [NEW], age=timedelta(minutes=-6))


def test_the_schedule_is_the_default_of_the_settings() -> None:
    rows = re.findall(r"^\| (\d+) \| (at once|(\d+) (seconds|minutes|hours)) \|$", PAGE, re.MULTILINE)
    seconds = [
        int(count or 0) * {"seconds": 1, "minutes": 60, "hours": 3600}.get(unit, 0) for _, _, count, unit in rows
    ]
    assert [int(number) for number, *_ in rows] == list(range(1, len(rows) + 1))
    assert seconds == [0, *Settings.model_fields["webhook_retry_seconds"].default]


def test_every_event_and_every_state_is_described() -> None:
    described = set(re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE))
    words = {word for cell in described for word in re.findall(r"`([a-z.]+)`", cell)}
    assert words == {*EventType, *DeliveryState}
