"""docker-compose.yml is a Compose file, and starts the programs that `make up` starts, with settings that exist."""

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from shield.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())


def faults(compose: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(compose)]


def test_it_is_a_compose_file() -> None:
    assert faults(COMPOSE) == []


def test_the_schema_refuses_what_is_none() -> None:
    assert faults({"services": {"api": {"image": "x", "comand": "y"}}})


def test_every_program_of_the_stack_has_a_service() -> None:
    programs = {
        "api": "python -m api",
        "house": "python -m worker house",
        "migrate": "python -m shield migrate",
        "scan": "python -m worker scan",
    }
    assert {name: SERVICES[name]["command"] for name in OURS} == programs
    for command in programs.values():
        assert importlib.util.find_spec(f"{command.split()[2]}.__main__")


def test_every_setting_in_it_exists() -> None:
    used = {name for service in OURS for name in SERVICES[service]["environment"] if name.startswith("SHIELD_")}
    assert used
    assert used <= {f"SHIELD_{name.upper()}" for name in Settings.model_fields}


def test_every_program_has_the_same_settings() -> None:
    assert all(SERVICES[name]["environment"] == SERVICES["api"]["environment"] for name in OURS)


def test_every_host_that_a_setting_names_is_a_service_that_the_program_reaches() -> None:
    urls = " ".join(SERVICES["api"]["environment"].values())
    hosts = set(re.findall(r"[@/]([a-z0-9.]+):[0-9]+", urls))
    named = {"postgres": "postgres", "redis": "redis", "s3.localhost": "s3"}
    assert hosts == named.keys()
    for host, name in named.items():
        networks = SERVICES[name]["networks"]
        shared = set(networks) & set(SERVICES["api"]["networks"])
        aliases = {alias for net in shared if isinstance(networks, dict) for alias in networks[net].get("aliases", [])}
        assert shared
        assert host in aliases | {name}


def test_no_secret_is_written_into_it() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|_KEY|DATABASE_URL", variable):
                assert re.search(r"\$\{[A-Z0-9_]+:\?.*\}", value), (name, variable)


def test_every_secret_is_named_where_the_first_start_is_explained() -> None:
    needed = set(re.findall(r"\$\{([A-Z0-9_]+)", TEXT))
    explained = re.search(r"for name in ([A-Z0-9_ ]+); do", TEXT)
    assert explained
    assert needed == set(explained[1].split())
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_the_least_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    if name in OURS:
        assert service["read_only"]
        assert "user" not in service
        assert "cap_add" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_be_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no"


def test_the_store_makes_the_bucket_that_the_settings_name() -> None:
    blobs = SERVICES["api"]["environment"]["SHIELD_BLOBS"]
    assert blobs.removeprefix("s3://").split("/")[0] == SERVICES["s3"]["environment"]["S3_BUCKET"]


def test_the_store_and_its_clients_have_the_same_keys() -> None:
    ours, theirs = SERVICES["api"]["environment"], SERVICES["s3"]["environment"]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert ours[name].split(":")[0] == theirs[name].split(":?")[0].removesuffix("}")


def copied() -> set[str]:
    lines = [shlex.split(line) for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    return {source for line in lines for source in line[1:-1]}


def test_the_image_holds_every_package_that_its_programs_import() -> None:
    packages = {"api", "worker", "pipeline", "shield", "migrations"}
    assert copied() == packages | {"requirements/runtime.txt", "requirements/gpu.txt"}
    assert all((ROOT / source).exists() for source in copied())


def test_the_builder_gets_what_the_image_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied()


@pytest.mark.parametrize("stage", re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:])
def test_every_image_is_run_by_a_user_without_rights(stage: str) -> None:
    users = re.findall(r"^USER (\S+)$", stage, re.MULTILINE)
    if not users:
        assert stage.startswith("FROM programs")  # whose user it keeps
        return
    found = re.fullmatch(r"(\d+):(\d+)", users[-1])
    assert found
    assert f"--uid {found[1]}" in DOCKERFILE
    assert int(found[1]) >= 1000


def test_the_image_that_is_built_without_a_target_has_no_torch() -> None:
    assert DOCKERFILE.rstrip().endswith("\nFROM programs")
    assert "gpu.txt" not in DOCKERFILE.split("FROM programs AS gpu")[0]


def test_the_page_of_settings_says_how_compose_scans_on_cuda() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    found = re.search(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found
    override = yaml.safe_load(found[1])
    assert faults(override) == []
    assert override["services"].keys() <= SERVICES.keys()
    assert f"AS {override['services']['scan']['build']['target']}\n" in DOCKERFILE
