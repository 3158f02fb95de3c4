"""Slow clients: how many of one account may keep a thread waiting."""

from api.clients import SlowClients


def test_an_account_has_its_part_of_the_threads_with_one_part_left_for_somebody_new() -> None:
    slow = SlowClients(threads=12)
    for _ in range(6):
        slow.add("acme")
    assert not slow.too_many("acme")
    slow.add("acme")
    assert slow.too_many("acme")
    slow.remove("acme")
    slow.add("beta")
    assert slow.too_many("acme")
    assert not slow.too_many("beta")
    slow.remove("beta")
    assert not slow.too_many("acme")
