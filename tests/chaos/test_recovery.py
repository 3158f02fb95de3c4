"""Recovery is measured from a worker's loss to the next result of what it held, and late writes are found."""

from typing import Any

from chaos.recovery import Loss, absences, joined, late_writes, percentile, recoveries

OLD, NEW = 1, 2  # processes


def leased(pid: int, moment: float, *items: str, chunk: str = "c", token: str = "") -> dict[str, Any]:
    return {
        "what": "leased",
        "pid": pid,
        "moment": moment,
        "chunk": chunk,
        "token": token or f"{pid}",
        "items": list(items),
    }


def line(what: str, pid: int, moment: float, **facts: object) -> dict[str, Any]:
    return {"what": what, "pid": pid, "moment": moment, "chunk": "c", "token": f"{pid}", **facts}


def test_a_loss_lasts_until_the_first_image_of_the_chunk_has_a_result() -> None:
    traces = [leased(OLD, 1.0, "a", "b"), leased(NEW, 6.0, "a", "b")]
    [found] = recoveries(traces, [Loss(OLD, 2.0, "worker killed")], {"a": 6.5, "b": 7.0}, [])
    assert (found.kind, found.seconds) == ("worker killed", 4.5)


def test_what_had_a_result_or_was_given_back_or_was_taken_over_before_was_not_held() -> None:
    done = [leased(OLD, 1.0, "a")]
    assert recoveries(done, [Loss(OLD, 2.0, "")], {"a": 1.5}, []) == []
    given_back = [leased(OLD, 1.0, "a"), line("released", OLD, 1.5)]
    assert recoveries(given_back, [Loss(OLD, 2.0, "")], {"a": 9.0}, []) == []
    taken_over = [leased(OLD, 1.0, "a"), leased(NEW, 1.5, "a")]
    assert recoveries(taken_over, [Loss(OLD, 2.0, "")], {"a": 9.0}, []) == []


def test_what_is_lost_twice_is_measured_until_the_second_worker_took_it_and_then_from_its_loss() -> None:
    traces = [leased(OLD, 1.0, "a"), leased(NEW, 5.0, "a"), leased(3, 9.0, "a")]
    found = recoveries(traces, [Loss(OLD, 2.0, "first"), Loss(NEW, 6.0, "second")], {"a": 9.5}, [])
    assert [(one.kind, one.seconds) for one in found] == [("first", 3.0), ("second", 3.5)]


def test_seconds_in_which_nothing_could_recover_are_left_out() -> None:
    traces = [leased(OLD, 1.0, "a"), leased(NEW, 6.0, "a")]
    [found] = recoveries(traces, [Loss(OLD, 2.0, "")], {"a": 6.5}, [(0.0, 3.0), (5.0, 99.0)])
    assert found.seconds == 2.0


def test_none_of_some_processes_is_up_between_the_last_death_and_the_next_start() -> None:
    ups, downs = [(OLD, 1.0), (NEW, 4.0), (3, 8.0)], [(OLD, 2.0), (NEW, 5.0)]
    assert absences(ups, downs, 10.0) == [(2.0, 4.0), (5.0, 8.0)]
    assert absences(ups[:2], downs, 10.0) == [(2.0, 4.0), (5.0, 10.0)]
    assert joined([(5.0, 8.0), (1.0, 3.0), (2.0, 4.0)]) == [(1.0, 4.0), (5.0, 8.0)]


def test_a_write_after_another_worker_took_the_chunk_is_found() -> None:
    fenced = [leased(OLD, 1.0), leased(NEW, 2.0), line("recorded", OLD, 3.0, moved=0)]
    assert late_writes([*fenced, line("recorded", NEW, 4.0, moved=1)]) == []
    assert [found.row for found in late_writes([*fenced, line("recorded", OLD, 4.0, moved=1)])] == ["c"]


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([], 0.99) == 0.0
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]
