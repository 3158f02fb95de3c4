"""Client of Deepfake Shield.

from deepfake_shield import Shield

with Shield("http://127.0.0.1:8000", key) as shield:
    for result in shield.scan(["holiday/", "https://example.com/portrait.jpg"]):
        print(result.custom_id, result.verdict, result.score)
"""

from deepfake_shield.cases import Case, Decision, Ruling
from deepfake_shield.client import Shield
from deepfake_shield.errors import (
    AnswerLost,
    ApiError,
    Busy,
    CannotListen,
    InvalidRequest,
    MixedSources,
    NotConfigured,
    NotFound,
    NothingToScan,
    NotVerified,
    ServerFailed,
    ServerUnreachable,
    ShieldError,
    TooLarge,
    Unauthorised,
    WaitTimedOut,
)
from deepfake_shield.results import Box, Counts, Face, Job, Result
from deepfake_shield.version import VERSION
from deepfake_shield.webhooks import verify

__all__ = [
    "VERSION",
    "AnswerLost",
    "ApiError",
    "Box",
    "Busy",
    "CannotListen",
    "Case",
    "Counts",
    "Decision",
    "Face",
    "InvalidRequest",
    "Job",
    "MixedSources",
    "NotConfigured",
    "NotFound",
    "NotVerified",
    "NothingToScan",
    "Result",
    "Ruling",
    "ServerFailed",
    "ServerUnreachable",
    "Shield",
    "ShieldError",
    "TooLarge",
    "Unauthorised",
    "WaitTimedOut",
    "verify",
]
