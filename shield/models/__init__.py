"""The tables. Constraints hold the invariants where SQL can: counts add up, states are known, one result an item.

Every row that an account owns carries its account_id, and no query goes without it (except a worker's, by lease).
"""

from shield.models.access import Account, ApiKey, AuditEntry, LoginLink, Moderator
from shield.models.base import Base
from shield.models.webhooks import Attempt, Delivery, Endpoint, Event, Notice
from shield.models.work import (
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
    "Account",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "Base",
    "BucketGrant",
    "Chunk",
    "Delivery",
    "Endpoint",
    "Event",
    "Face",
    "IdempotencyKey",
    "Item",
    "Job",
    "LoginLink",
    "Moderator",
    "Notice",
    "Outbox",
    "Rejection",
    "Source",
    "Upload",
    "Weights",
]
