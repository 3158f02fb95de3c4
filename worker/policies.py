"""Policies: by which one an account's images are judged, asked of SQL now and then."""

import threading
import time

from shield import policies
from shield.db import Database
from shield.policy import Policy

FRESH_SECONDS = 2.0  # how long a published policy may go unnoticed


class Policies:
    """The policies in force, for any thread. `default` judges for accounts that have published none."""

    def __init__(self, database: Database, default: Policy) -> None:
        self._database = database
        self._default = default
        self._known: dict[str, Policy] = {}
        self._stale_at = 0.0
        self._asking = threading.Lock()

    def of(self, account_id: str) -> Policy:
        """The account's policy. Raises StorageUnavailable."""
        with self._asking:
            if time.monotonic() >= self._stale_at:
                self._known.clear()
                self._stale_at = time.monotonic() + FRESH_SECONDS
            if account_id not in self._known:
                with self._database.read() as session:
                    self._known[account_id] = policies.in_force(session, account_id, self._default)
            return self._known[account_id]
