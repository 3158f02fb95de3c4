"""Every setting, with its default and its reason. Environment variables SHIELD_<NAME>, or a .env file.

docs/settings.md lists them all; a test holds that page to this file.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import limits
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shield.errors import SettingsError

MIB = 1024 * 1024


class Settings(BaseSettings):
    """The settings of one installation; all programs read the same ones."""

    model_config = SettingsConfigDict(
        env_prefix="SHIELD_", env_file=".env", extra="ignore", frozen=True, allow_inf_nan=False
    )

    home: Path = Field(Path("var"), description="Folder of everything that the embedded stack keeps.")
    database_url: str = Field("", description="SQLAlchemy URL. Empty: SQLite in HOME/shield.db.")
    redis_url: str = Field("", description="Redis URL. Empty: the supervisor starts a server of its own.")
    blobs: str = Field("", description="Where objects are kept: a folder, or s3://BUCKET/PREFIX. Empty: HOME/blobs.")
    s3_endpoint_url: str = Field("", description="Address of an S3-compatible server. Empty: Amazon's.")
    s3_region: str = Field("", description="Region of the S3 server. Empty: what boto3 finds, else us-east-1.")
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="Signs browser sessions, encrypts webhooks' secrets. Empty: made once, in HOME/secret.",
    )

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on.")
    api_threads: int = Field(32, ge=1, description="Requests that one API process serves at a time.")

    proxies: int = Field(0, ge=0, description="Reverse proxies in front of the API, whose X-Forwarded-* are believed.")

    rate_limit: str = Field("1200 per minute", description="Requests of one account. Empty: as many as it likes.")
    max_items_per_day: int = Field(0, ge=0, description="Images that an account may submit in 24 hours. 0: no limit.")
    max_request_bytes: int = Field(512 * MIB, ge=1024, description="Largest request body; beyond it 413.")
    max_image_bytes: int = Field(32 * MIB, ge=1024, description="Largest encoded image, uploaded or fetched.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest image in pixels, read from its header.")
    max_items: int = Field(10_000, ge=1, description="Most items in one request of JSON or multipart.")
    max_source_items: int = Field(
        1_000_000, ge=1, le=10_000_000, description="Most items of a manifest, zip or S3 prefix."
    )
    max_zip_bytes: int = Field(8192 * MIB, ge=1, description="Most bytes that a zip may unpack to, in all.")
    max_zip_ratio: int = Field(100, ge=1, description="Most bytes that a byte of a zip may unpack to.")
    max_backlog_items: int = Field(5_000_000, ge=1, description="Items that wait; beyond it submissions get a 503.")
    idempotency_hours: float = Field(24.0, gt=0, description="How long an Idempotency-Key is remembered.")
    upload_hours: float = Field(1.0, gt=0, le=168, description="How long the signed URL of an upload can be used.")
    retention_days: float = Field(30.0, gt=0, description="Jobs that ended so long ago are purged, images and all.")
    purge_seconds: float = Field(60.0, gt=0, description="How often what is expired or deleted is purged.")

    chunk_items: int = Field(64, ge=1, le=64, description="Items that are leased and queued together.")
    batch_images: int = Field(64, ge=1, description="Images that a worker scans together.")
    company_seconds: float = Field(
        0.004, ge=0, le=1, description="How long an image that somebody waits for waits for others to share its batch."
    )
    lease_seconds: float = Field(60.0, gt=0, description="How long a worker holds a chunk without a sign of life.")
    sweep_seconds: float = Field(2.0, gt=0, description="How often expired leases are returned.")
    relay_seconds: float = Field(1.0, gt=0, description="How often the relay publishes what the outbox holds.")
    queue_window: int = Field(1000, ge=1, description="Messages that a lane of Redis holds; the rest wait in SQL.")
    lease_poll_seconds: float = Field(2.0, gt=0, description="How often an idle worker looks in SQL without a message.")

    claim_seconds: float = Field(300.0, gt=0, description="How long a moderator has a case without a sign of life.")
    bulk_cases: int = Field(100, ge=1, description="Most cases that are decided at once.")
    decisions_per_minute: int = Field(
        300, ge=1, description="Decisions of one person in a minute; beyond it none in bulk."
    )

    webhook_retry_seconds: list[Annotated[float, Field(ge=0)]] = Field(
        [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400],
        description="Waits between the tries of a webhook. The first is made at once; after the last it is given up.",
    )
    webhook_timeout_seconds: float = Field(15.0, gt=0, description="Whole time that one try of a webhook may take.")
    webhook_poll_seconds: float = Field(0.5, gt=0, description="How often the house looks for webhooks to send.")
    webhook_disable_days: float = Field(5.0, gt=0, description="A webhook that failed for so long is disabled.")

    engine: Literal["onnx", "onnx-int8", "torch"] = Field(
        "onnx", description="What runs the networks: onnx or onnx-int8 (CPU), or torch."
    )
    device: str = Field("cpu", description="cpu, cuda, cuda:1. Anything but cpu is for the torch engine.")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="Number type of the torch engine.")
    scan_workers: int = Field(1, ge=1, le=256, description="Scan workers of `shield up`; they share the cores.")
    threads: int = Field(0, ge=0, description="CPU threads of a worker's networks. 0: as many as are fastest here.")

    fetch_timeout_seconds: float = Field(15.0, gt=0, description="Whole time that fetching one URL may take.")
    egress_allow_loopback: bool = Field(False, description="Development only: let URLs reach this machine.")

    log_format: Literal["text", "json"] = Field("text", description="One line of text or of JSON an event.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")

    @field_validator("rate_limit")
    @classmethod
    def _is_rate(cls, value: str) -> str:
        if value:
            limits.parse(value)
        return value

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{(self.home / 'shield.db').absolute()}"

    @property
    def blob_folder(self) -> Path:
        """The folder of the blob store in force, where it is a folder."""
        return Path(self.blobs).absolute() if self.blobs else (self.home / "blobs").absolute()


@cache
def settings() -> Settings:
    """The settings of this process, read once. Raises SettingsError, naming each variable that does not fit."""
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(f"SHIELD_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"{faults}. docs/settings.md lists every setting") from error
