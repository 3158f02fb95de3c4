"""docker-compose.yml starts the programs that `make up` starts, with settings that exist."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from shield.settings import Settings

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_every_program_of_the_stack_has_a_service(services: dict[str, Any]) -> None:
    commands = {service["command"] for service in services.values()}
    programs = {"python -m api", "python -m worker scan", "python -m worker house", "python -m shield migrate"}
    assert programs <= commands
    for command in programs:
        assert importlib.util.find_spec(f"{command.split()[2]}.__main__")


def test_every_setting_in_it_exists(services: dict[str, Any]) -> None:
    used = {name for service in services.values() for name in service.get("environment", {})}
    assert used
    assert used <= {f"SHIELD_{name.upper()}" for name in Settings.model_fields}


def test_nothing_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
