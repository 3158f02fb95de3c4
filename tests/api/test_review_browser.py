"""A moderator's day in a real browser: Chromium, headless."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from shield import audit, cases, claims, decisions, moderators, retention
from shield.models import Case
from shield.states import Answer, CaseState, DecisionReason, Role
from tests.api.browsers import Site, barriers
from tests.api.conftest import House, face, wait_until

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery staple"


@pytest.fixture
def site(build: Callable[..., House]) -> Iterator[Site]:
    """A house with eight cases, that loses a claim quickly."""
    site = Site(build(chunk_items=4))
    site.house.submit(8)
    for scores in ((0.99, 0.97, 0.95, 0.93), (0.91, 0.89, 0.7, 0.6)):
        held = site.house.lease()
        found = zip(held.items, scores, strict=True)
        site.house.record(held, [site.house.scanned(item.id, face(score)) for item, score in found])
    yield site
    site.server.shutdown()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console says."""
    return []


Enter = Callable[..., Page]


@pytest.fixture
def enter(browser: Browser, site: Site, complaints: list[str]) -> Enter:
    """Signs a new person in, in a browser of their own."""
    secret = moderators.hash_password(PASSWORD)

    def sign_in(name: str, role: Role = Role.MODERATOR, width: int = 1280, scheme: str = "light") -> Page:
        with site.house.database.write() as session:
            moderators.create(session, site.house.account_id, name, secret, role, audit.OPERATOR)
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{site.url}/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.goto(f"{site.url}/review")
        return page

    return sign_in


def all_cases(site: Site) -> list[Case]:
    with site.house.database.read() as session:
        wanted = [cases.CaseFilter(), cases.CaseFilter(state=CaseState.DECIDED)]
        return [
            row for one in wanted for row in cases.queue(session, site.house.account_id, Role.LEAD, 100, wanted=one)
        ]


def answers(site: Site) -> dict[str, str | None]:
    """What each case was decided to be, by the item's custom_id."""
    return {str(row.item.custom_id): row.answer for row in all_cases(site)}


def title(page: Page) -> str:
    return page.locator(".ruling h1").inner_text()


def on_case(page: Page, name: str) -> None:
    """The page shows this photo's case, and listens to keys."""
    expect(page.locator(".ruling h1")).to_have_text(name)
    expect(page.locator(".review.live")).to_be_visible()


def test_a_moderators_day_by_keyboard(site: Site, enter: Enter, complaints: list[str]) -> None:
    page = enter("robin")
    expect(page.get_by_text("8 to review")).to_be_visible()
    page.keyboard.press("s")
    on_case(page, "0.jpg")
    page.keyboard.press("3")  # fraud
    page.keyboard.press("t")
    page.keyboard.type("sent on, e.g. from a bank: fun?")  # every letter of it is a key, and rests
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    on_case(page, "1.jpg")
    expect(page.get_by_role("status")).to_contain_text("Upheld")
    page.keyboard.press("u")
    on_case(page, "0.jpg")
    expect(page.locator(".history")).to_contain_text("Upheld by you: fraud")
    expect(page.locator(".history")).to_contain_text("Taken back by you")
    expect(page.get_by_role("radio", name="Fraud")).to_be_checked()
    expect(page.get_by_label("Note")).to_have_value("sent on, e.g. from a bank: fun?")
    page.keyboard.press("n")  # with which fraud, that came back by itself, does not go
    on_case(page, "1.jpg")
    page.keyboard.press("s")
    on_case(page, "2.jpg")
    page.keyboard.press("e")
    on_case(page, "3.jpg")
    page.keyboard.press("q")  # given back
    expect(page.get_by_role("heading", name="Review")).to_be_visible()
    expect(page.locator(".review.live")).to_be_visible()
    for key in "jxjx":  # 1.jpg, which was skipped, and 3.jpg
        page.keyboard.press(key)
    expect(page.get_by_text("2 cases chosen")).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_text("Overturned 2 cases.")).to_be_visible()
    expect(page.locator(".review.live")).to_be_visible()
    page.keyboard.press("a")
    page.keyboard.press("f")
    expect(page.get_by_text("Upheld 4 cases.")).to_be_visible()
    expect(page.get_by_role("heading", name="All reviewed")).to_be_visible()
    page.keyboard.press("d")
    expect(page.get_by_role("list", name="Decided cases").get_by_role("listitem")).to_have_count(7)
    expected = {"0.jpg": "overturn", "1.jpg": "overturn", "2.jpg": None, "3.jpg": "overturn"}
    assert answers(site) == expected | {f"{n}.jpg": "uphold" for n in range(4, 8)}
    with site.house.database.read() as session:
        first = next(row for row in all_cases(site) if row.item.custom_id == "0.jpg")
        made = decisions.history(session, site.house.account_id, first.id)
    assert [(one.answer, one.reason) for one in made] == [("uphold", "fraud"), ("undo", None), ("overturn", None)]
    assert made[0].note == "sent on, e.g. from a bank: fun?"
    assert complaints == []


def test_two_browsers_race_for_one_case_and_one_of_them_gets_it(site: Site, enter: Enter) -> None:
    robin, kim = enter("robin"), enter("kim")
    first = all_cases(site)[0].id
    for page in (robin, kim):
        page.goto(f"{site.url}/review/cases/{first}")
        on_case(page, "0.jpg")
    robin.keyboard.press("c")
    expect(robin.get_by_text("Yours while this page is open.")).to_be_visible()
    kim.keyboard.press("t")
    kim.keyboard.type("my note")
    kim.keyboard.press("Escape")
    kim.keyboard.press("f")
    expect(kim.get_by_role("alert")).to_contain_text("Somebody else has this case")
    expect(kim.get_by_label("Your note, which was not saved")).to_have_value("my note")
    kim.keyboard.press("s")
    on_case(kim, "1.jpg")
    robin.keyboard.press("n")
    expect(robin.locator(".ruling h1")).to_have_text("2.jpg")
    assert answers(site)["0.jpg"] == Answer.OVERTURN


def test_enter_in_a_field_answers_nothing(site: Site, enter: Enter) -> None:
    page = enter("robin")
    page.keyboard.press("j")
    for field in (page.get_by_role("checkbox", name="Choose 0.jpg"), page.get_by_label("Note")):
        field.press("Space")
        field.press("Enter")
        expect(page.get_by_text("1 case chosen")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    on_case(page, "0.jpg")
    other = page.get_by_role("radio", name="Other")
    other.check()
    other.press("Enter")
    page.keyboard.press("q")
    expect(page.get_by_text("8 to review")).to_be_visible()
    assert not any(answers(site).values())


def test_a_second_press_answers_no_second_case(site: Site, enter: Enter) -> None:
    page = enter("robin")
    page.keyboard.press("s")
    on_case(page, "0.jpg")
    page.evaluate(
        "for (const key of 'ffn') document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
    )
    on_case(page, "1.jpg")
    assert [row.answer for row in all_cases(site) if row.answer] == ["uphold"]


def test_a_claim_lasts_while_its_page_is_open_and_its_loss_is_told(
    build: Callable[..., House], browser: Browser
) -> None:
    house = build(chunk_items=4, claim_seconds=5.0)
    house.submit(1)
    house.scan_all(face(0.9))
    site = Site(house)
    page = enter_by_link(browser, site)
    page.goto(f"{site.url}/review")
    page.keyboard.press("s")
    on_case(page, "0.jpg")
    [row] = all_cases(site)
    wait_until(lambda: all_cases(site)[0].claimed_until > row.claimed_until)  # type: ignore[operator]
    page.get_by_label("Note").fill("half a thou")
    with house.database.write() as session:
        session.execute(update(Case).values(claimed_by="mod_kim", claim_token="clm_kim"))
    expect(page.get_by_text("Your claim is over.")).to_be_visible()
    page.get_by_role("link", name="See how it stands").click()
    expect(page.get_by_text("has this case.")).to_be_visible()
    with house.database.write() as session:
        session.execute(update(Case).values(state="open", claimed_by=None, claim_token=None, claimed_until=None))
    page.reload()
    expect(page.get_by_label("Note")).to_have_value("half a thou")  # though it was never sent
    site.server.shutdown()


def enter_by_link(browser: Browser, site: Site) -> Page:
    page = browser.new_context().new_page()
    page.goto(site.link())
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("navigation", name="Site")).to_contain_text("Review")
    return page


def test_photos_are_veiled_until_they_are_asked_for_and_that_is_kept(site: Site, enter: Enter) -> None:
    page = enter("robin")
    page.keyboard.press("s")
    on_case(page, "0.jpg")
    photo = page.locator("#stage > img")
    look = "element => getComputedStyle(element).filter"
    assert photo.evaluate(look) == "blur(14.4px) grayscale(1)"
    page.keyboard.press("v")
    expect(page.get_by_role("button", name="Clear view")).to_have_attribute("aria-pressed", "true")
    assert photo.evaluate(look) == "blur(0px) grayscale(0)"
    page.keyboard.press("f")
    on_case(page, "1.jpg")
    assert photo.evaluate(look) == "blur(14.4px) grayscale(1)"  # the next one is veiled again
    with page.expect_response(re.compile("/review/preferences")):
        page.keyboard.press("b")
    assert photo.evaluate(look) == "blur(0px) grayscale(1)"
    page.reload()
    on_case(page, "1.jpg")
    assert photo.evaluate(look) == "blur(0px) grayscale(1)"


def test_why_is_asked_for_by_opening_a_case_and_shown_when_it_is_there(
    site: Site, enter: Enter, complaints: list[str]
) -> None:
    page = enter("robin")
    page.keyboard.press("s")
    on_case(page, "0.jpg")
    expect(page.get_by_text("Explaining the scores…")).to_be_visible()
    site.house.explain(all_cases(site)[0].item_id)
    expect(page.get_by_text("Saved again: 40 % to 90 %")).to_be_visible()
    heat = page.locator("#heat image")
    expect(heat).to_be_hidden()
    page.keyboard.press("h")
    expect(heat).to_be_visible()
    page.keyboard.press("f")
    on_case(page, "1.jpg")
    expect(page.get_by_role("button", name="Heat")).to_have_attribute("aria-pressed", "true")
    assert complaints == []


def test_keys_are_listed_and_can_be_turned_off(site: Site, enter: Enter) -> None:
    page = enter("robin")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Start reviewing")
    page.get_by_label("Use single keys in this browser").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", name="Review")).to_be_visible()
    assert [row.state for row in all_cases(site)] == [CaseState.OPEN] * 8
    page.keyboard.press("?")  # still there, to turn them on
    page.get_by_label("Use single keys in this browser").check()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    on_case(page, "0.jpg")


def test_a_picture_that_is_gone_says_so(site: Site, enter: Enter) -> None:
    page = enter("robin")
    page.route("**/view", lambda route: route.abort())
    page.goto(f"{site.url}/review/cases/{all_cases(site)[0].id}")
    expect(page.get_by_text("The picture cannot be shown")).to_be_visible()
    expect(page.locator("#stage")).to_be_hidden()


def test_a_deleted_job_leaves_the_note(site: Site, enter: Enter) -> None:
    page = enter("robin")
    page.keyboard.press("s")
    on_case(page, "0.jpg")
    page.get_by_label("Note").fill("a long thought")
    with site.house.database.write() as session:
        retention.delete_job(session, site.house.account_id, all_cases(site)[0].job_id, audit.OPERATOR)
    page.get_by_role("button", name="Uphold").click()
    expect(page.get_by_text("There is nothing here")).to_be_visible()
    expect(page.get_by_label("Your note, which was not saved")).to_have_value("a long thought")
    assert barriers(page) == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_nothing_keeps_anybody_out_and_nothing_is_wider_than_the_screen(
    site: Site, enter: Enter, complaints: list[str], width: int, scheme: str
) -> None:
    page = enter("robin", Role.LEAD, width, scheme)
    row = all_cases(site)[0]
    site.house.explain(row.item_id)
    decided = all_cases(site)[1]
    with site.house.database.write() as session:
        reviewer = claims.Reviewer("mod_other", Role.LEAD)
        claim = claims.claim(session, site.house.account_id, decided.id, reviewer, 60)
        ruling = decisions.Ruling(Answer.UPHOLD, DecisionReason.FRAUD, "a note")
        decisions.decide(session, site.house.account_id, decided.id, claim.token, ruling, reviewer)
    case = f"/review/cases/{row.id}"
    for path in (
        "/review",
        case,
        f"/review/cases/{decided.id}",
        "/review/decided",
        "/review?reason=sample",
        "/review/cases/x",
    ):
        page.goto(site.url + path)
        assert barriers(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.goto(f"{site.url}/review")
    page.get_by_role("checkbox", name="Choose 2.jpg").check()
    assert barriers(page) == []
    if width > 500:
        page.keyboard.press("?")
        assert barriers(page) == []
    del complaints[:]  # of the page that is not there
