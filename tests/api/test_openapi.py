import re

from openapi_spec_validator import validate

from tests.api.conftest import House, face

SIGNED = "/v1/uploads/{upload_id}/content"  # its signature is its key


def test_the_document_is_valid_openapi_3_1(house: House) -> None:
    document = house.client.get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_the_document_is_the_same_however_often_it_is_asked_for(house: House) -> None:
    first, second = (house.client.get("/openapi.json") for _ in range(2))
    assert second.status_code == 200
    assert second.get_json() == first.get_json()


def test_every_route_of_the_api_is_documented_with_its_key_and_its_errors(house: House) -> None:
    paths = house.client.get("/openapi.json").get_json()["paths"]
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    routes = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in house.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(("/v1/", "/healthz", "/readyz"))
    }
    assert documented == routes
    for path, methods in paths.items():
        for operation in methods.values():
            if path == SIGNED:
                assert "security" not in operation
                assert set(operation["responses"]) >= {"403", "500", "503"}
            elif path.startswith("/v1/"):
                assert operation["security"] == [{"key": []}]
                assert set(operation["responses"]) >= {"401", "403", "500", "503"}
                assert ("404" in operation["responses"]) == ("{" in path)
            for status, answer in operation["responses"].items():
                if status >= "400" and path.startswith("/v1/"):
                    assert list(answer["content"]) == ["application/problem+json"]
    refusing = {op["operationId"] for methods in paths.values() for op in methods.values() if "422" in op["responses"]}
    assert refusing == {
        "submit_job",
        "list_jobs",
        "list_items",
        "list_rejections",
        "retry_job",
        "create_key",
        "create_uploads",
        "create_webhook",
        "change_webhook",
        "rotate_webhook",
        "replay_events",
        "list_deliveries",
        "list_notices",
        "list_cases",
        "decide_case",
        "export_decisions",
    }  # those with a query or a body to refuse


def test_what_is_answered_is_what_is_documented(house: House) -> None:
    schemas = house.client.get("/openapi.json").get_json()["components"]["schemas"]
    job_id = house.submit(1)
    house.scan_all(face(0.9))
    item = house.get(f"/v1/jobs/{job_id}/items").get_json()["data"][0]
    assert set(schemas["Item"]["properties"]) == set(item)
    assert set(schemas["Face"]["properties"]) == set(item["faces"][0])
    assert set(schemas["Job"]["properties"]) == set(house.get(f"/v1/jobs/{job_id}").get_json())
    assert set(schemas["Problem"]["properties"]) >= set(house.get("/v1/jobs/x").get_json())


def test_the_browsable_page_loads_nothing_from_elsewhere(house: House) -> None:
    page = house.client.get("/docs")
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(sources) >= 4
    for source in sources:
        assert source.startswith("/")
        assert house.client.get(source).status_code == 200, source
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "http" not in policy
