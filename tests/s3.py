"""Real S3 servers on loopback: moto's, which takes any signature, and nanio, which checks them all."""

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import uvicorn
from botocore.config import Config
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from nanio.app import build_app
from nanio.auth.credentials import StaticCredentialResolver
from nanio.config import Settings as NanioSettings

from shield import s3
from shield.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY, SECRET = "AKIATESTTESTTESTTEST", "a-secret-that-no-log-may-hold-0123456789"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
PATIENCE = 30.0  # seconds


@dataclass(frozen=True)
class S3Server:
    """A server, as its owner sees it."""

    url: str

    @cached_property
    def client(self) -> "S3Client":
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(signature_version="s3v4", request_checksum_calculation="when_required"),
        )

    def new_bucket(self, **objects: bytes) -> str:
        """The name of a new bucket that holds these objects."""
        name = f"test-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=name)
        for key, content in objects.items():
            self.client.put_object(Bucket=name, Key=key, Body=content)
        return name

    def settings(self, monkeypatch: pytest.MonkeyPatch, home: Path, **changes: Any) -> Settings:
        """Settings of an installation that uses this server, and the environment that boto3 looks into."""
        s3._client.cache_clear()  # a server of an earlier test may have had this port, and other credentials
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        return Settings(home=home, s3_endpoint_url=self.url, _env_file=None, **changes)


@cache
def moto() -> S3Server:
    """moto's server, started once a test process, in a thread that ends with it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    return S3Server(f"http://127.0.0.1:{port}")


@contextmanager
def nanio(folder: Path) -> Iterator[S3Server]:
    """nanio, which keeps its objects in this folder."""
    app = build_app(NanioSettings(data_dir=folder, credentials=StaticCredentialResolver({KEY: SECRET})))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while not server.started:
            assert time.monotonic() < deadline, "nanio did not start"
            time.sleep(0.01)
        yield S3Server("http://{}:{}".format(*listener.getsockname()))
        server.should_exit = True
        thread.join(PATIENCE)
