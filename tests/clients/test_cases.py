"""Cases listed, looked at and decided, and decisions exported. Against the real API."""

from datetime import timedelta
from pathlib import Path

import pytest

from deepfake_shield import InvalidRequest, NotFound, Shield
from tests.clients.house import House


def test_a_flagged_image_is_a_case_that_is_decided_and_exported(house: House, shield: Shield, photos: Path) -> None:
    job = shield.submit(photos)
    house.scan_all()
    found = list(shield.cases())
    names = {Path(case.custom_id or "").name for case in found}
    assert names == {"b.PNG", "e.gif"}
    first, second = found
    assert (first.state, first.level, first.reason, first.verdict, first.score) == (
        "open", "moderator", "flagged", "fake", 0.9,
    )  # fmt: skip
    assert (first.job_id, first.item, first.decisions) == (job.id, None, ())

    decision = shield.decide(first.id, "overturn", reason="satire", note="marked „so“")
    assert (decision.case_id, decision.answer, decision.reason) == (first.id, "overturn", "satire")
    whole = shield.case(first.id)
    assert (whole.state, whole.answer, whole.decided_at) == ("decided", "overturn", decision.decided_at)
    assert whole.decisions == (decision,)
    assert whole.item is not None
    assert whole.item.custom_id == first.custom_id
    assert [case.id for case in shield.cases(verdict="fake", sort="age", job_id=job.id)] == [second.id]
    assert [case.id for case in shield.cases(state="decided")] == [first.id]
    assert [case.id for case in shield.cases(custom_id=Path(second.custom_id or "").name)] == [second.id]

    [ruling] = shield.decisions()
    assert (ruling.id, ruling.decision, ruling.note) == (decision.id, "overturned", "marked „so“")
    assert ruling.item.faces[0].score == 0.9
    moment = decision.decided_at
    assert list(shield.decisions(since=moment + timedelta(milliseconds=1))) == []
    assert list(shield.decisions(until=moment)) == []
    assert [one.id for one in shield.decisions(moment, moment + timedelta(milliseconds=1))] == [decision.id]


def test_what_was_decided_or_is_not_there_is_refused(house: House, shield: Shield, photos: Path) -> None:
    shield.submit(photos / "b.PNG")
    house.scan_all()
    [case] = shield.cases()
    shield.decide(case.id, "uphold")
    with pytest.raises(InvalidRequest) as error:
        shield.decide(case.id, "overturn")
    assert error.value.code == "already_decided"
    with pytest.raises(InvalidRequest, match="uphold goes with"):
        shield.decide(case.id, "uphold", reason="satire")
    with pytest.raises(NotFound):
        shield.case("cas_" + "0" * 27)
    with Shield(house.url, house.another_key()) as other:
        assert list(other.cases()) == []
        assert list(other.decisions()) == []
        with pytest.raises(NotFound):
            other.case(case.id)
