"""The console, and people who mean it harm: through names of photos, and from other sites. In a real browser."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser

from shield import cases
from shield.models import Case
from shield.states import CaseState, Role
from tests.api.browsers import Site, open_page
from tests.api.conftest import House, face

pytestmark = pytest.mark.browser

HOSTILE = [
    "<script>alert({n})</script>.jpg", "<img src=x onerror=alert({n})>.jpg", '"><svg onload=alert({n})>.jpg',
    "' onfocus=alert({n}) autofocus='.jpg", "javascript:alert({n}).jpg", "{{{{ 7 * 7 }}}}{n}.jpg", "\u202egpj.{n}exe",
    "</title><script>alert({n})</script>", "&lt;b&gt;{n}.jpg", "%3Cscript%3Ealert({n})%3C/script%3E.jpg",
    "<!--{n}.jpg", "<style>*{{display:none}}</style>{n}.jpg", "../../../etc/passwd{n}", "\u200b\u200b{n}.jpg",
    "<a href=//evil.example>{n}</a>.jpg", "<base href=//evil.example>{n}.jpg", "`${{alert({n})}}`.jpg",
    "é" * 200 + "{n}", "<form action=//evil.example><button>{n}", "x" * 900 + "{n}", "<iframe src=//evil.example>{n}",
    "<meta http-equiv=refresh content=0>{n}", "<textarea>{n}", "]]>{n}.jpg", "&quot; onclick=alert({n}) {n}",
]  # fmt: skip


def all_cases(house: House) -> list[Case]:
    with house.database.read() as session:
        return cases.queue(session, house.account_id, Role.LEAD, 100)


def test_fifty_hostile_names_are_text(build: Callable[..., House], browser: Browser) -> None:
    house = build(chunk_items=64)
    names = [form.format(n=n) for n in range(2) for form in HOSTILE]
    assert len(set(names)) == 50
    answer = house.post(
        "/v1/jobs",
        json={"items": [{"url": f"https://acme.example/{n}", "custom_id": name} for n, name in enumerate(names)]},
    )
    assert answer.status_code == 202, answer.text
    house.scan_all(face(0.9))
    site = Site(house)
    complaints: list[str] = []
    page = open_page(browser, site, complaints)
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    seen = []
    page.goto(f"{site.url}/review?sort=score")
    while True:
        seen += page.locator("#wall p.title").evaluate_all("all => all.map((one) => one.title)")
        if not page.get_by_role("link", name="Next cases").is_visible():
            break
        page.get_by_role("link", name="Next cases").click()
    assert sorted(seen) == sorted(names)
    for row in all_cases(house):
        page.goto(f"{site.url}/review/cases/{row.id}")
        assert page.locator(".ruling h1").evaluate("one => one.textContent") == row.item.custom_id
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert complaints == []
    site.server.shutdown()


class Evil(BaseHTTPRequestHandler):
    """Another site, whose page sends a form to the address that its own names."""

    def do_GET(self) -> None:
        target = self.path.partition("?")[2]
        inside = '<input name="answer" value="uphold"><button>Free prize</button>'
        page = f'<form method="post" action="{target}">{inside}</form>'
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def test_a_form_of_another_site_decides_nothing(site: Site, browser: Browser) -> None:
    site.house.submit(1)
    site.house.scan_all(face(0.9))
    page = open_page(browser, site)
    case_id = all_cases(site.house)[0].id
    with ThreadingHTTPServer(("127.0.0.1", 0), Evil) as evil:
        threading.Thread(target=evil.serve_forever, daemon=True).start()
        for host in ("localhost", "127.0.0.1"):  # another site, and one that shares our cookies: a port is no boundary
            for path in (f"/review/cases/{case_id}/decide", "/review/bulk", "/review/next", "/review/preferences"):
                page.goto(f"http://{host}:{evil.server_port}/?{site.url}{path}")
                with page.expect_navigation() as sent:
                    page.get_by_role("button", name="Free prize").click()
                assert sent.value.status in ((401,) if host == "localhost" else (403,))
        evil.shutdown()
    assert {(row.state, row.answer) for row in all_cases(site.house)} == {(CaseState.OPEN, None)}
