"""docs/api.md names every route, every error code and every code of a failed item, and no other."""

import re

from api import errors
from pipeline.results import ErrorCode
from shield.errors import BlobMissing, FetchFailed, SettingsError, ShieldError
from tests.api.conftest import ROOT, House

PAGE = (ROOT / "docs" / "api.md").read_text()


def test_every_route_of_the_api_is_on_the_page(house: House) -> None:
    paths = house.client.get("/openapi.json").get_json()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)`", PAGE, re.MULTILINE)) == routes


def test_every_error_code_is_on_the_page() -> None:
    kinds = set(errors.HTTP_STATUS)
    kinds |= {child for kind in kinds for child in kind.__subclasses__()}  # answered like their parent
    codes = {kind.code for kind in kinds} | {errors.INVALID_REQUEST, ShieldError.code}
    codes |= set(errors.CODES.values())
    documented = set(re.findall(r"^\| \d{3} \| `(\w+)`", PAGE, re.MULTILINE))
    assert documented == codes
    assert SettingsError.code not in documented


def test_every_code_of_a_failed_item_is_on_the_page(house: House) -> None:
    _, found, section = PAGE.partition("## Errors of an item\n")
    assert found
    documented = set(re.findall(r"^\| `(\w+)`", section.partition("\n## ")[0], re.MULTILINE))
    fetching = {FetchFailed.code, *(kind.code for kind in FetchFailed.__subclasses__()), BlobMissing.code}
    assert documented == {*ErrorCode, *fetching, "scan_failed", "poison"}
    schemas = house.client.get("/openapi.json").get_json()["components"]["schemas"]
    assert "docs/api.md" in schemas["ItemError"]["properties"]["code"]["description"]
