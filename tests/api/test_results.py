"""Results and decisions as streams: what hinders them is answered as an error, not in the midst of a 200."""

import pytest
from sqlalchemy import text

from tests.api.conftest import House, face


def test_a_database_that_is_away_is_an_answer_also_where_rows_are_streamed(house: House) -> None:
    house.submit(1)
    house.scan_all(face(0.9))
    with house.database.write() as session:
        session.execute(text("alter table review_case rename to away"))
    answer = house.get("/v1/decisions")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "storage_unavailable")
    assert "Retry-After" in answer.headers


def test_a_table_of_nothing_has_its_head(house: House) -> None:
    job_id = house.submit(1)
    house.sign_in(house.client)
    answer = house.client.get(f"/jobs/{job_id}/results.csv")
    assert answer.text.startswith("\ufeffid,custom_id,")
    assert answer.text.count("\n") == 1
    assert house.get(f"/v1/jobs/{job_id}/results").text == ""


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_that_utc_has_not_is_the_first_or_the_last_of_all(house: House, moment: str) -> None:
    for name in ("since", "until"):
        answer = house.client.get("/v1/decisions", query_string={name: moment}, headers=house.bearer)
        assert (answer.status_code, answer.text) == (200, "")
