"""A moderator's browser, without a window."""

import re
from collections.abc import Sequence
from html import unescape

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shield import audit, cases, moderators
from shield.models import Case
from shield.states import Answer, Role
from tests.api.conftest import House, face

NOTE = "seen in an advert of „Bank“ <b>today</b>"


class Desk:
    """A moderator of a house."""

    def __init__(self, house: House, name: str, role: Role = Role.MODERATOR) -> None:
        self.house = house
        with house.database.write() as session:
            row = moderators.create(session, house.account_id, name, "no password", role, audit.OPERATOR)
        self.id = row.id
        self.client: FlaskClient = house.app.test_client()
        house.let_in(self.client, house.account_id, row.id)

    def get(self, path: str = "/review") -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, **fields: str | Sequence[str]) -> TestResponse:
        return self.client.post(path, data={"form_token": "t", **fields})

    def next(self, view: str = "") -> str:
        """Claim the next case; its id."""
        return case_of(self.post(f"/review/next{view}"))

    def token(self, case_id: str) -> str:
        found = re.search(r'name="token" value="(clm_\w+)"', self.get(f"/review/cases/{case_id}"))
        assert found, "no claim"
        return found[1]

    def decide(self, case_id: str, answer: Answer, **fields: str) -> TestResponse:
        return self.post(f"/review/cases/{case_id}/decide", answer=answer, **fields)


def case_of(answer: TestResponse) -> str:
    """The case that an answer leads to."""
    found = re.match(r"/review/cases/(cas_\w+)", answer.headers.get("Location", ""))
    assert (answer.status_code, bool(found)) == (303, True), answer.text
    assert found
    return found[1]


def note_in(page: str) -> str:
    """What the first text of a page holds."""
    found = re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
    assert found, page
    return unescape(found[1])


def row(house: House, case_id: str) -> Case:
    with house.database.read() as session:
        return cases.get(session, house.account_id, case_id)


def shown(page: str) -> list[str]:
    return re.findall(r'<p class="title" title="([^"]+)"', page)


def open_four(house: House) -> None:
    """Four cases: scores of 0.99, 0.95, 0.9 and 0.6, the last one suspect."""
    house.submit(4)
    held = house.lease()
    scores = (0.9, 0.6, 0.99, 0.95)
    house.record(held, [house.scanned(i.id, face(s)) for i, s in zip(held.items, scores, strict=True)])
