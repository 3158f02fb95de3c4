"""Client of Deepfake Shield.

from deepfake_shield import Shield

with Shield("http://127.0.0.1:8000", key) as shield:
    for result in shield.scan(["holiday/", "https://example.com/portrait.jpg"]):
        print(result.custom_id, result.verdict, result.score)
"""

from deepfake_shield.client import Shield
from deepfake_shield.errors import (
    AnswerLost,
    ApiError,
    Busy,
    InvalidRequest,
    MixedSources,
    NotConfigured,
    NotFound,
    NothingToScan,
    ServerFailed,
    ServerUnreachable,
    ShieldError,
    TooLarge,
    Unauthorised,
    WaitTimedOut,
)
from deepfake_shield.results import Box, Counts, Face, Job, Result
from deepfake_shield.version import VERSION

__all__ = [
    "VERSION",
    "AnswerLost",
    "ApiError",
    "Box",
    "Busy",
    "Counts",
    "Face",
    "InvalidRequest",
    "Job",
    "MixedSources",
    "NotConfigured",
    "NotFound",
    "NothingToScan",
    "Result",
    "ServerFailed",
    "ServerUnreachable",
    "Shield",
    "ShieldError",
    "TooLarge",
    "Unauthorised",
    "WaitTimedOut",
]
