"""Sending photos from a real browser: many at once, whole folders, and what happens when some do not arrive."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.api.browsers import Site, barriers, open_page
from tests.api.conftest import House, picture

pytestmark = pytest.mark.browser

DROP = """([names, bytes]) => {
  const files = new DataTransfer();
  for (const name of names) files.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
}"""
CONTENT = re.compile("/v1/uploads/.*/content")


@pytest.fixture
def site(build: Callable[..., House]) -> Iterator[Site]:
    site = Site(build(chunk_items=2, max_image_bytes=50_000, max_items=150))
    yield site
    site.server.shutdown()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console says."""
    return []


@pytest.fixture
def page(browser: Browser, site: Site, complaints: list[str]) -> Page:
    page = open_page(browser, site, complaints)
    expect(page.locator("#drop.live")).to_be_visible()  # the script listens
    return page


def drop(page: Page, *names: str) -> None:
    page.evaluate(DROP, [names, list(picture())])


def names_of(site: Site, page: Page) -> list[str | None]:
    """The custom ids of the job whose page is shown."""
    return [item.custom_id for item in site.house.items(page.url.rpartition("/")[2])]


def problems(page: Page) -> list[str]:
    return page.locator("#problems li").all_inner_texts()


def test_hundreds_of_photos_are_one_job_in_their_order(site: Site, page: Page, complaints: list[str]) -> None:
    names = [f"IMG_{n:04}.jpg" for n in range(130)]
    drop(page, *names)
    expect(page.get_by_role("heading", name="IMG_0000.jpg and 129 more")).to_be_visible(timeout=60_000)
    assert names_of(site, page) == names
    assert complaints == []


def choose(page: Page, folder: Path) -> None:
    page.locator("#folder").set_input_files(folder)


def drag(page: Page, folder: Path) -> None:
    """As from a file manager: what a script cannot play."""
    browser = page.context.new_cdp_session(page)
    dragged = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 300, "data": dragged})


@pytest.mark.parametrize("give", [choose, drag])
def test_a_folder_is_sent_with_its_paths_and_without_what_is_no_photo(
    site: Site, page: Page, tmp_path: Path, give: Callable[[Page, Path], None]
) -> None:
    folder = tmp_path / "holiday"
    (folder / "beach").mkdir(parents=True)
    for name in ("a.jpg", "beach/b.jpg"):
        (folder / name).write_bytes(picture())
    for name, content in ((".DS_Store", b"x"), ("notes.txt", b"x"), ("empty.jpg", b""), ("large.jpg", b"x" * 60_000)):
        (folder / name).write_bytes(content)
    give(page, folder)
    expect(page.get_by_role("heading", name="2 photos sent, 3 left out")).to_be_visible()
    assert sorted(problems(page)) == [
        "holiday/empty.jpg The file is empty.",
        "holiday/large.jpg The file has 60 KB, more than 50 KB.",
        "holiday/notes.txt This is not a photo.",
    ]
    assert barriers(page) == []
    page.get_by_role("link", name="Show the job").click()
    expect(page.get_by_role("heading", name="holiday")).to_be_visible()
    assert sorted(names_of(site, page), key=str) == ["holiday/a.jpg", "holiday/beach/b.jpg"]


def test_more_photos_than_a_job_holds_are_named(site: Site, page: Page) -> None:
    drop(page, *(f"{n}.jpg" for n in range(152)))
    expect(page.get_by_role("heading", name="150 photos sent, 2 left out")).to_be_visible(timeout=60_000)
    assert problems(page) == [f"{n}.jpg More than 150 photos: send it with the next job." for n in (150, 151)]


def test_a_connection_that_breaks_is_tried_again(site: Site, page: Page) -> None:
    broken: list[str] = []

    def break_once(route: Route) -> None:
        if len(broken) < 2:
            broken.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    page.route(CONTENT, break_once)
    drop(page, "1.jpg", "2.jpg", "3.jpg")
    expect(page.get_by_role("heading", name="1.jpg and 2 more")).to_be_visible()
    assert len(broken) == 2
    assert names_of(site, page) == ["1.jpg", "2.jpg", "3.jpg"]


def test_what_is_refused_is_said_and_the_others_can_be_scanned(site: Site, page: Page) -> None:
    refused = {"detail": "the image is larger than the limit", "code": "too_large"}
    sent: list[str] = []

    def refuse_the_second(route: Route) -> None:
        sent.append(route.request.url)
        if len(sent) == 2:
            route.fulfill(status=413, json=refused)
        else:
            route.continue_()

    page.route(CONTENT, refuse_the_second)
    drop(page, "1.jpg", "2.jpg", "3.jpg")
    expect(page.get_by_role("heading", name="1 photo could not be sent")).to_be_visible()
    [told] = problems(page)
    assert told.endswith("The image is larger than the limit.")
    page.get_by_role("button", name="Scan the other 2").click()
    expect(page.get_by_text("0 of 2 done")).to_be_visible()
    assert told.partition(" ")[0] not in names_of(site, page)
    assert len(sent) == 3


def test_while_too_much_waits_the_photos_are_kept_and_sent_no_second_time(site: Site, page: Page) -> None:
    waits = {"detail": "more items wait than the limit of 9: nothing was accepted, try again later", "code": "backlog"}
    puts: list[str] = []
    page.on("request", lambda request: puts.append(request.url) if request.method == "PUT" else None)
    page.route("**/jobs", lambda route: route.fulfill(status=503, json=waits), times=1)
    drop(page, "1.jpg", "2.jpg")
    expect(page.get_by_role("heading", name="No job was made yet")).to_be_visible()
    expect(page.locator("#problems .why")).to_have_text(f"M{waits['detail'][1:]}.")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="1.jpg and 1 more")).to_be_visible()
    assert len(puts) == 2


def test_sending_is_shown_and_stopped(site: Site, page: Page, complaints: list[str]) -> None:
    page.route(CONTENT, lambda route: None)  # never answered
    drop(page, *(f"{n}.jpg" for n in range(9)))
    expect(page.get_by_text("0 of 9 photos sent")).to_be_visible()
    assert barriers(page) == []
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Drop photos here")).to_be_visible()
    expect(page.get_by_role("heading", name="Stopped: 0 of 9 photos sent")).to_be_visible()
    expect(page.locator("#problems")).to_be_focused()
    assert site.house.get("/v1/jobs").get_json()["data"] == []
    page.unroute(CONTENT)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("0 of 9 done")).to_be_visible()
    assert complaints == []


def test_who_is_signed_out_meanwhile_is_told(site: Site, page: Page) -> None:
    other = page.context.new_page()
    other.goto(site.url)
    other.get_by_role("button", name="Leave").click()
    expect(other.get_by_text("Nobody is signed in here")).to_be_visible()
    drop(page, "1.jpg")
    expect(page.locator("#problems .why")).to_contain_text("Sign in")


def test_a_hostile_name_is_a_name(site: Site, page: Page) -> None:
    name = "<img src=x onerror=alert(1)>HALF'{{7*7}}.jpg"
    half_a_letter = DROP.replace("name, {", "name.replace('HALF', '\\ud800'), {")
    page.evaluate(half_a_letter, [[name, "2.jpg"], list(picture())])
    expect(page.get_by_text("0 of 2 done")).to_be_visible()
    assert names_of(site, page)[0] == name.replace("HALF", "\ufffd")
