"""The cancel chore: ends what a request to cancel has left waiting, in small transactions, the jobs in turn."""

import time

from shield import jobs
from shield.db import Database

TURN_SECONDS = 1.0  # of one turn: the other chores of the house wait meanwhile
BATCH = 2_000  # items in one transaction


def cancel(database: Database) -> int:
    """End waiting items of canceling jobs for a while; how many. Raises StorageUnavailable."""
    until = time.monotonic() + TURN_SECONDS
    with database.read() as session:
        open_jobs = jobs.canceling(session)
    for job_id in open_jobs:
        with database.write() as session:
            jobs.close_ready(session, job_id)
    canceled = 0
    while open_jobs:
        for job_id in tuple(open_jobs):
            with database.write() as session:
                ended = jobs.cancel_waiting(session, job_id, BATCH)
            canceled += ended
            if ended < BATCH:
                open_jobs.remove(job_id)
            if time.monotonic() > until:
                return canceled
    return canceled
