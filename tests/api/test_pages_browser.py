"""The pages in a real browser: Chromium, headless."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from shield import accounts
from tests.api.conftest import House, face, failed, picture, wait_until

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("No Chromium on the PATH: apt install chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


class Site:
    """A house that is served on a port of its own."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.server = make_server("127.0.0.1", 0, house.app, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def link(self) -> str:
        with self.house.database.write() as session:
            return f"{self.url}/session/{accounts.create_link(session, self.house.account_id)}"


@pytest.fixture
def site(build: Callable[..., House]) -> Iterator[Site]:
    site = Site(build(chunk_items=2))
    yield site
    site.server.shutdown()


def open_page(
    browser: Browser, site: Site, complaints: list[str], *, javascript: bool = True, width: int = 1280
) -> Page:
    """A signed-in page; what its console says (a blocked style, a failed script) is added to `complaints`."""
    context = browser.new_context(java_script_enabled=javascript, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(site.link())
    page.get_by_role("button", name="Open").click()
    return page


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


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, site: Site) -> None:
    job_id = site.house.submit(2)
    site.house.scan_all(*(face(0.9, left=30 * n) for n in range(4)))
    item_id = site.house.items(job_id)[0].id
    page = open_page(browser, site, [], width=390)
    for path in ("/", f"/jobs/{job_id}", f"/items/{item_id}", "/jobs/nothing"):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_the_browsable_documentation_draws_itself_under_the_policy(browser: Browser, site: Site) -> None:
    complaints: list[str] = []
    page = open_page(browser, site, complaints)
    page.goto(f"{site.url}/docs")
    expect(page.get_by_text("/v1/jobs/{job_id}/results")).to_be_visible()
    assert complaints == []
