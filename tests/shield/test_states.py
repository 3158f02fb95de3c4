import pytest

from shield.states import (
    ITEM_EDGES,
    ITEM_TERMINAL,
    MACHINES,
    ChunkState,
    DeliveryState,
    ItemState,
    JobState,
    chart,
    sources,
)


def test_nothing_leaves_a_terminal_state() -> None:
    assert not [edge for edge in ITEM_EDGES if edge.source in ITEM_TERMINAL]
    assert not [edge for edge in MACHINES["job"] if edge.source is JobState.ENDED]


def test_every_state_is_reached_or_is_the_first() -> None:
    machines = ((ItemState, "item"), (ChunkState, "chunk"), (JobState, "job"), (DeliveryState, "delivery"))
    for states, edges in machines:
        reached = {edge.target for edge in MACHINES[edges]} | {MACHINES[edges][0].source}
        assert reached == set(states)


def test_sources_are_read_from_the_table() -> None:
    assert sources(ItemState.DONE) == (ItemState.LEASED,)
    assert set(sources(JobState.ENDED)) == {JobState.QUEUED, JobState.RUNNING, JobState.CANCELING}


def test_nothing_leads_to_a_starting_state() -> None:
    with pytest.raises(ValueError, match="starting state"):
        sources(JobState.EXPANDING)


def test_the_chart_draws_every_edge_with_its_reason() -> None:
    drawn = chart("item")
    assert all(f"{edge.source} --> {edge.target}: {edge.reason}" in drawn for edge in ITEM_EDGES)
    assert "done --> [*]" in drawn
    assert "leased --> [*]" not in drawn
