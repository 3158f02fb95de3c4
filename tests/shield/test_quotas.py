"""Quotas hold when many submit at once, and hold up nobody for ever."""

import threading

import pytest

from shield import jobs, quotas
from shield.db import Database
from shield.errors import QuotaUsed
from shield.jobs import NewItem


@pytest.mark.parametrize(("most", "passing"), [(1000, 10), (12, 4)])
def test_parallel_jobs_pass_up_to_the_quota(database: Database, account_id: str, most: int, passing: int) -> None:
    ends: list[bool] = []

    def submit() -> None:
        try:
            with database.write() as session:
                quotas.lock(session, account_id, most)
                jobs.submit(session, account_id, [NewItem(blob="a" * 64)] * 3, 4)
                quotas.check(session, account_id, most)
        except QuotaUsed:
            ends.append(False)
        else:
            ends.append(True)

    threads = [threading.Thread(target=submit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends, reverse=True) == [True] * passing + [False] * (10 - passing)
