"""The tables. Constraints hold the invariants where SQL can: counts add up, states are known, one result an item.

Every row that an account owns carries its account_id, and no query goes without it (except a worker's, by lease).
"""

from shield.models.access import Account, ApiKey, AuditEntry, BrowserSession, LoginLink, Moderator
from shield.models.base import Base
from shield.models.explain import ExplainedFace, Explanation
from shield.models.policies import PolicyVersion
from shield.models.review import Case, CasePiece, Decision
from shield.models.webhooks import Attempt, Delivery, Endpoint, Event, Notice
from shield.models.work import (
    WHOLE_ITEM,
    BucketGrant,
    Chunk,
    Face,
    IdempotencyKey,
    Item,
    Job,
    Outbox,
    Rejection,
    Source,
    Upload,
    Weights,
)

__all__ = [
    "WHOLE_ITEM",
    "Account",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "Base",
    "BrowserSession",
    "BucketGrant",
    "Case",
    "CasePiece",
    "Chunk",
    "Decision",
    "Delivery",
    "Endpoint",
    "Event",
    "ExplainedFace",
    "Explanation",
    "Face",
    "IdempotencyKey",
    "Item",
    "Job",
    "LoginLink",
    "Moderator",
    "Notice",
    "Outbox",
    "PolicyVersion",
    "Rejection",
    "Source",
    "Upload",
    "Weights",
]
