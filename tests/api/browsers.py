"""Chromium, headless, and a house that it visits."""

import shutil
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from shield import accounts

if TYPE_CHECKING:
    from tests.api.conftest import House

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 30_000  # milliseconds until a page that does not become as expected fails its test
expect.set_options(timeout=PATIENCE)


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

    def __init__(self, house: "House") -> None:
        self.house = house
        self.server = make_server("127.0.0.1", 0, house.app, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def link(self) -> str:
        with self.house.database.write() as session:
            return f"{self.url}/session/{accounts.create_link(session, self.house.account_id)}"


@pytest.fixture
def site(build: Callable[..., "House"]) -> Iterator[Site]:
    site = Site(build(chunk_items=2))
    yield site
    site.server.shutdown()


def open_page(
    browser: Browser,
    site: Site,
    complaints: list[str] | None = None,
    *,
    javascript: bool = True,
    width: int = 1280,
    dark: bool = False,
) -> Page:
    """A signed-in page; what its console says (a blocked style, a failed script) is added to `complaints`."""
    context = browser.new_context(
        java_script_enabled=javascript,
        viewport={"width": width, "height": 800},
        color_scheme="dark" if dark else "light",
    )
    page = context.new_page()
    if complaints is not None:
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(site.link())
    page.get_by_role("button", name="Open").click()
    return page


def barriers(page: Page) -> list[str]:
    """What axe finds on a page that would keep people out, by its rules for WCAG and for good practice."""
    found = Axe().run(page).response["violations"]
    return [f"{page.url}: {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
