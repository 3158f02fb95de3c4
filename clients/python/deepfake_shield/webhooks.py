"""Webhooks: whether a delivery is the server's own, by the Standard Webhooks specification."""

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from deepfake_shield.errors import NotConfigured, NotVerified

TOLERANCE_SECONDS = 300  # an older delivery may be one that somebody recorded and sends again
PREFIX = "whsec_"


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> dict[str, Any]:
    """The event that a delivery brings: its `type`, `timestamp` and `data`.

    `body` is the request's, byte for byte, and `secret` the endpoint's, which begins with whsec_.
    Raises NotVerified, which says why, and NotConfigured for a secret that is none.
    """
    key = key_of(secret)
    found = {name.lower(): value for name, value in headers.items()}
    try:
        name, sent, signatures = (found[f"webhook-{each}"] for each in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise NotVerified(f"the header {error.args[0]} is missing") from error
    if not re.fullmatch("[0-9]{1,12}", sent):
        raise NotVerified("the header webhook-timestamp is no number of seconds")
    age = (time.time() if now is None else now) - int(sent)
    if abs(age) > TOLERANCE_SECONDS:
        when = "old: it may be a recorded delivery" if age > 0 else "in the future: compare the two clocks"
        raise NotVerified(f"the timestamp is {abs(age):.0f} s {when}")
    digest = hmac.new(key, f"{name}.{sent}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    if not any(hmac.compare_digest(expected, each.encode()) for each in signatures.split(" ")):
        raise NotVerified("no signature fits: another secret, or the body was changed on the way")
    try:
        event = json.loads(body)
    except ValueError as error:
        raise NotVerified("the signature fits, but the body is no JSON") from error
    if not isinstance(event, dict):
        raise NotVerified("the signature fits, but the body is no JSON object")
    return event


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for. Raises NotConfigured."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key or not secret.startswith(PREFIX):
        raise NotConfigured("the secret must be whsec_ and base64, as the server showed it when the endpoint was made")
    return key
