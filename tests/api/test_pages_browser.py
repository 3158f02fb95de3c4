"""The pages in a real browser: Chromium, headless."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from api.words import EVENTS
from shield import deliveries, endpoints
from shield.deliveries import Schedule, Try
from shield.secret import Seal
from tests.api.browsers import Site, barriers, open_page
from tests.api.conftest import House, face, failed, picture, wait_until

pytestmark = pytest.mark.browser

DROP = """([name, bytes]) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
  files.items.add(new File(["no image"], "notes.txt"));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
}"""


def test_a_dropped_photo_is_followed_until_its_faces_are_boxed(browser: Browser, site: Site) -> None:
    complaints: list[str] = []
    page = open_page(browser, site, complaints)
    expect(page.locator("#drop.live")).to_be_visible()  # the script listens
    page.evaluate(DROP, ["portrait.jpg", list(picture())])
    expect(page.get_by_role("heading", name="portrait.jpg and 1 more")).to_be_visible()
    expect(page.get_by_text("0 of 2 done")).to_be_visible()
    held = site.house.lease()
    expect(page.get_by_text("Being scanned")).to_have_count(2)
    site.house.record(held, [site.house.scanned(held.items[0].id, face(0.93)), failed(held.items[1].id)])
    expect(page.get_by_text("2 of 2 done")).to_be_visible()  # by itself: nobody reloads
    expect(page.get_by_text("This is not an image.")).to_be_visible()
    card = page.locator(".card.fake")
    expect(card.get_by_role("img", name="1 face: 93 %")).to_be_visible()
    wait_until(lambda: card.locator("img").evaluate("image => image.complete && image.naturalWidth") == 160)
    # The box lies where the face is: 20 to 60 of 160 pixels from the left of the picture as it is shown.
    frame, box = card.locator("svg.faces").bounding_box(), card.locator("rect.line").bounding_box()
    assert frame is not None
    assert box is not None
    scale = min(frame["width"] / 160, frame["height"] / 120)
    left = frame["x"] + (frame["width"] - 160 * scale) / 2
    assert box["x"] == pytest.approx(left + 20 * scale, abs=3)
    assert box["width"] == pytest.approx(40 * scale, abs=6)
    card.get_by_role("link", name="portrait.jpg: larger").click()
    expect(page.get_by_text("Strong signs of a forged face.")).to_be_visible()
    assert complaints == []


def test_without_javascript_photos_are_chosen_and_the_page_reloads_itself(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(picture())
    page = open_page(browser, site, [], javascript=False)
    page.get_by_label("Drop photos here").set_input_files(tmp_path / "photo.jpg")
    page.get_by_role("button", name="Scan").click()
    expect(page.get_by_text("0 of 1 done")).to_be_visible()
    site.house.scan_all(face(0.1))
    expect(page.get_by_text("1 of 1 done")).to_be_visible(timeout=20_000)
    expect(page.locator(".card.clear")).to_be_visible()


def pages_of(house: House) -> list[str]:
    """The path of every page for submitters and admins, with something on it."""
    with house.database.write() as session:
        webhook, _ = endpoints.create(
            session, house.account_id, Seal("k"), f"https://acme.example/{'long/' * 40}", list(EVENTS)
        )
    job_id = house.submit(2)
    held = house.lease()
    faces = (face(0.9, left=30 * n) for n in range(4))
    house.record(held, [house.scanned(held.items[0].id, *faces), failed(held.items[1].id)])
    house.submit(2)
    with house.database.read() as session:
        [(delivery, _), *_] = deliveries.of_endpoint(session, webhook, 10)
    item_id = house.items(job_id)[0].id
    return [
        "/", f"/jobs/{job_id}", f"/jobs/{job_id}?search=nothing&sort=score", f"/items/{item_id}", "/jobs/nothing",
        "/keys", "/webhooks", f"/webhooks/{webhook.id}", f"/webhooks/{webhook.id}/deliveries/{delivery.id}",
    ]  # fmt: skip


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_every_page_fits_its_screen_and_keeps_nobody_out(browser: Browser, site: Site, width: int, dark: bool) -> None:
    paths = pages_of(site.house)
    complaints: list[str] = []
    page = open_page(browser, site, complaints, width=width, dark=dark)
    for path in paths:
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert barriers(page) == []
    assert [each for each in complaints if "404" not in each] == []  # the page of a job that is none


def test_jobs_move_on_the_front_page_by_themselves(browser: Browser, site: Site) -> None:
    site.house.submit(2)
    page = open_page(browser, site)
    row = page.locator("#jobs > li")
    expect(row).to_contain_text("2 photos · Waiting, 0 done")
    site.house.scan_all(face(0.9))
    expect(row).to_contain_text("2 photos · 2 fake")


def test_photos_are_searched_sorted_retried_and_their_job_deleted(browser: Browser, site: Site) -> None:
    job_id = site.house.submit(14)
    for part in range(7):
        held = site.house.lease()
        scanned = site.house.scanned(held.items[0].id, face(part / 10))
        site.house.record(held, [scanned, failed(held.items[1].id)])
    page = open_page(browser, site)
    page.goto(f"{site.url}/jobs/{job_id}")
    page.get_by_label("Order").select_option("Highest score first")
    expect(page.locator(".card .score").first).to_have_text("60 %")
    page.get_by_role("searchbox", name="Find by name").fill("1")
    page.keyboard.press("Enter")
    expect(page.locator(".card .title")).to_have_text(["12.jpg", "10.jpg", "1.jpg", "11.jpg", "13.jpg"])
    page.get_by_role("button", name="Try 7 again").click()
    expect(page.get_by_text("0 of 7 done")).to_be_visible()
    page.get_by_role("link", name="Retry of an earlier job").click()
    page.get_by_text("Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", name="Recent jobs")).to_be_visible()
    expect(page.locator(f"#{job_id}")).to_have_count(0)


def test_a_webhook_is_made_tested_changed_and_deleted_in_the_browser(browser: Browser, site: Site) -> None:
    complaints: list[str] = []
    page = open_page(browser, site, complaints)
    page.get_by_role("link", name="Webhooks").click()
    page.get_by_label("URL").fill("https://192.0.2.1/hook")
    page.get_by_role("button", name="Make a webhook").click()
    expect(page.get_by_role("alert")).to_contain_text("No webhook was made.")
    page.get_by_label("URL").fill("https://acme.example/hook")
    page.get_by_label("Description").fill("Acme")
    page.get_by_label("A photo is fake or suspect").uncheck()
    page.get_by_role("button", name="Make a webhook").click()
    expect(page.locator("#secret")).to_contain_text("whsec_")
    site.house.submit(1)
    site.house.scan_all(face(0.9))
    expect(page.locator("#deliveries")).to_contain_text("A job ended", timeout=20_000)  # by itself
    expect(page.locator("#secret")).to_contain_text("whsec_")
    page.get_by_role("link", name="All webhooks").click()
    expect(page.locator("#secret")).to_have_count(0)
    page.get_by_role("link", name="Acme").click()
    expect(page.locator("#secret")).to_have_count(0)
    expect(page.get_by_label("A photo is fake or suspect")).not_to_be_checked()
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("It is about to be sent.")).to_be_visible()
    with site.house.database.write() as session:
        [due] = deliveries.due_endpoints(session)
        held = deliveries.lease(session, {due.id: 2}, 60)
        tries = [Try(each, 12, 204, answer="<b>thanks</b>") for each in held]
        deliveries.record(session, tries, Schedule([5.0], 5))
    expect(page.get_by_text("<b>thanks</b>")).to_be_visible()  # by itself, and as text
    expect(page.locator("#facts")).to_contain_text("Delivered")
    page.get_by_role("button", name="Send once more").click()
    expect(page.get_by_text("1 event is sent once more.")).to_be_visible()
    expect(page.locator("#deliveries > li")).to_have_count(3)
    page.get_by_role("button", name="New secret").click()
    expect(page.locator("#secret")).to_contain_text("whsec_")
    page.get_by_role("button", name="Disable").click()
    expect(page.locator("#standing")).to_contain_text("Disabled by your account.")
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("#standing")).to_contain_text("On")
    page.get_by_text("Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", name="Your first webhook")).to_be_visible()
    assert [each for each in complaints if "422" not in each] == []  # what the wrong URL was answered with


def test_the_browsable_documentation_draws_itself_under_the_policy(browser: Browser, site: Site) -> None:
    complaints: list[str] = []
    page = open_page(browser, site, complaints)
    page.goto(f"{site.url}/docs")
    expect(page.get_by_text("/v1/jobs/{job_id}/results")).to_be_visible()
    assert complaints == []
