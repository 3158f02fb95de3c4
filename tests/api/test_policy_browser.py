"""The policy pages in a real browser: Chromium, headless."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.browsers import Site, barriers, open_page
from tests.api.conftest import House, face

pytestmark = pytest.mark.browser


def scan(house: House, *scores: float) -> str:
    """A job of an image for each score, two in a chunk."""
    job_id = house.submit(len(scores))
    for _ in range((len(scores) + 1) // 2):
        held = house.lease()
        house.record(held, [house.scanned(item.id, face(scores[int(item.id[-7:])])) for item in held.items])
    return job_id


def type_a_draft(page: Page) -> None:
    page.get_by_label("These").check()
    thresholds = page.get_by_role("group", name="Thresholds", exact=True)
    thresholds.get_by_role("spinbutton", name="Suspect from").fill("40")
    thresholds.get_by_role("spinbutton", name="Fake from").fill("70")
    page.get_by_text("Add a rule").click()
    rule = page.get_by_role("group", name="Rule 1")
    rule.get_by_role("spinbutton", name="Faces below").fill("30")
    rule.get_by_label("from S3").check()
    rule.get_by_role("spinbutton", name="Suspect from").fill("60")
    rule.get_by_role("spinbutton", name="Fake from").fill("90")
    page.get_by_label("Reviewed at random").fill("2")
    page.get_by_label("Note").fill("Fewer false alarms")


def test_a_policy_is_published_after_its_preview_and_rolled_back(browser: Browser, site: Site) -> None:
    scan(site.house, 0.45, 0.75, 0.1)
    complaints: list[str] = []
    page = open_page(browser, site, complaints)
    page.get_by_role("link", name="Policy").click()
    expect(page.get_by_text("nothing was published yet")).to_be_visible()
    type_a_draft(page)
    assert barriers(page) == []
    page.get_by_role("button", name="See what would change").click()
    expect(page.get_by_role("heading", name="2 photos would get another verdict")).to_be_visible()
    expect(page.locator(".card.suspect .faces g.suspect[data-face]")).to_have_count(1)  # boxed as the draft sees it
    expect(page.get_by_role("row", name="Clear 2 1 −1")).to_be_visible()
    assert barriers(page) == []
    page.get_by_role("link", name="Go on editing").click()
    expect(page.get_by_label("Note")).to_have_value("Fewer false alarms")
    page.get_by_role("button", name="See what would change").click()
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_text("Faces below 30 px, from S3: suspect from 60 %, fake from 90 %")).to_be_visible()
    page.get_by_role("button", name="Roll back to the default").click()
    expect(page.get_by_text("Back to the default").first).to_be_visible()
    expect(page.get_by_role("button", name="Roll back to account/1")).to_be_visible()
    assert complaints == []


def test_a_threshold_is_found_from_clean_photos_and_goes_into_the_draft(browser: Browser, site: Site) -> None:
    job_id = scan(site.house, *(n / 100 for n in range(60)))
    complaints: list[str] = []
    page = open_page(browser, site, complaints)
    page.goto(f"{site.url}/policy")
    page.get_by_role("link", name="Find a threshold").click()
    page.get_by_label("Of clean photos, at most").fill("5")
    page.locator(f"input[value={job_id}]").check()
    page.get_by_role("button", name="Find the threshold").click()
    expect(page.get_by_role("heading", name="Suspect from 59.01 %")).to_be_visible()
    assert barriers(page) == []
    page.get_by_role("link", name="Put it into the draft").click()
    expect(page.get_by_role("spinbutton", name="Suspect from").first).to_have_value("59.01")
    expect(page.get_by_label("These")).to_be_checked()
    assert complaints == []


def test_figures_that_are_typed_are_the_ones_that_count(browser: Browser, site: Site) -> None:
    page = open_page(browser, site)
    page.goto(f"{site.url}/policy")
    page.get_by_label("The model's own").check()
    page.get_by_role("spinbutton", name="Suspect from").first.fill("40")
    expect(page.get_by_label("These")).to_be_checked()


@pytest.mark.parametrize("dark", [False, True])
def test_the_policy_fits_a_phone_by_day_and_by_night(browser: Browser, site: Site, dark: bool) -> None:
    job_id = scan(site.house, 0.45, 0.75, 0.1)
    page = open_page(browser, site, width=390, dark=dark)
    page.goto(f"{site.url}/policy")
    type_a_draft(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="See what would change").click()
    for path in (
        "/policy/preview",
        "/policy",
        f"/policy/fit?target=1&job={job_id}",
        f"/policy/fit?target=70&job={job_id}",
    ):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert barriers(page) == []
