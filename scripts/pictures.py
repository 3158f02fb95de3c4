"""Take the pictures of the console that the documentation shows: `make pictures`.

It starts a stack of its own, as `make demo` does, has the sample photos scanned, and looks at the pages as a moderator.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "samples")]

import demo  # noqa: E402 - a script of samples/

from deepfake_shield import Shield  # noqa: E402 - the demo knows where it is

PICTURES = ROOT / "docs" / "pictures"
SIZES = {"desktop": (1360, 850), "phone": (390, 844)}
NAME = "robin"


def hire() -> str:
    """Add a moderator; the password."""
    line = [sys.executable, "-m", "shield", "person", "add", NAME, "--role", "moderator"]
    told = subprocess.run(line, cwd=demo.OUT, env=demo.environment(), capture_output=True, text=True, check=True)
    return told.stdout.split()[-1]


@contextmanager
def signed_in(browser: Browser, url: str, password: str, size: str, scheme: str) -> Iterator[Page]:
    """A moderator's page of this size."""
    width, height = SIZES[size]
    phone = size == "phone"
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=2 if phone else 1,
        has_touch=phone,
        is_mobile=phone,
    )
    page = context.new_page()
    page.goto(f"{url}/login")
    page.get_by_label("Name").fill(NAME)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{url}/review")
    yield page
    context.close()


def take(page: Page, name: str) -> None:
    """Keep what is seen of a page, once its pictures are there."""
    page.wait_for_load_state("networkidle")
    page.screenshot(path=PICTURES / f"{name}.jpg", type="jpeg", quality=82)


def look(browser: Browser, url: str, password: str) -> None:
    """Go through a case on a desktop and on a phone."""
    with signed_in(browser, url, password, "desktop", "light") as page:
        take(page, "review-queue")
        page.keyboard.press("s")
        expect(page.get_by_text("Saved again")).to_be_visible(timeout=60_000)
        take(page, "review-veiled")
        for key in ("v", "h", "3"):
            page.keyboard.press(key)
        take(page, "review-case")
        page.keyboard.press("?")
        take(page, "review-keys")
        page.keyboard.press("Escape")
        page.keyboard.press("f")
        expect(page.get_by_text("Upheld")).to_be_visible()
    with signed_in(browser, url, password, "phone", "dark") as page:
        page.get_by_role("button", name="Start reviewing").click()
        expect(page.get_by_text("Saved again")).to_be_visible(timeout=60_000)
        take(page, "review-phone")


def main() -> int:
    """Take all pictures; the exit code."""
    os.chdir(ROOT)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium on the PATH: apt install chromium", file=sys.stderr)
        return 1
    demo.OUT.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(demo.OUT / "home", ignore_errors=True)
    with demo.stack() as found:
        with Shield(found.url, found.key) as shield:
            shield.wait(shield.submit(demo.photos(), name="Profile pictures").id)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            look(browser, found.url, hire())
            browser.close()
    print(f"the pictures are in {PICTURES.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
