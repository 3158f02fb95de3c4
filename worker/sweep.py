"""The sweep: returns the chunks of workers that died, and the cases of reviewers who left."""

import logging

from shield import claims, dispatch
from shield.db import Database

log = logging.getLogger(__name__)


def sweep(database: Database) -> int:
    """Return expired leases; how many."""
    with database.write() as session:
        returned = dispatch.sweep(session)
    if returned:
        log.warning("%d leases ran out: their workers died or hung, and their chunks wait again", returned)
    return returned


def sweep_claims(database: Database) -> int:
    """Return expired claims; how many."""
    with database.write() as session:
        return claims.sweep(session)
