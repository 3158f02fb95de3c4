"""Browser sessions, and the cookies that stand for them."""

import pytest

from shield import sessions
from tests.api.conftest import House, form_token


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_the_session_cookie_is_kept_from_scripts_and_other_sites(house: House, scheme: str, secure: bool) -> None:
    answer = house.client.get("/session/x", base_url=f"{scheme}://localhost")
    assert form_token(answer)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ("Secure" in cookie) is secure


def test_a_session_that_was_left_is_over_for_every_copy_of_its_cookie(house: House) -> None:
    house.sign_in(house.client)
    copy = house.app.test_client()
    cookie = house.client.get_cookie("shield")
    assert cookie is not None
    copy.set_cookie("shield", cookie.value)
    assert "Recent jobs" in copy.get("/").text
    form = {"form_token": form_token(house.client.get("/"))}
    assert house.client.post("/logout", data=form).status_code == 303
    over = copy.get("/")
    assert "Nobody is signed in" in over.text
    assert "Leave" not in over.text
    answer = copy.get("/keys")
    assert (answer.status_code, "over" in answer.text, "Leave" in answer.text) == (401, True, False)
    assert copy.post("/logout", data={"form_token": form_token(copy.get("/login"))}).status_code == 303


def test_who_signs_in_anew_ends_the_session_before(house: House) -> None:
    for _ in range(2):
        house.sign_in(house.client)
    with house.database.read() as session:
        assert len(sessions.of_account(session, house.account_id)) == 1
