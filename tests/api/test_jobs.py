import json

import pytest

from shield import jobs
from tests.api.conftest import House, face, failed, picture

RESULT_KEYS = {
    "id", "custom_id", "state", "verdict", "reasons", "score", "faces", "image", "model", "policy_version",
    "from_cache", "error",
}  # fmt: skip


def test_jobs_are_listed_newest_first_a_page_at_a_time(house: House) -> None:
    ids = [house.submit(1) for _ in range(5)][::-1]
    first = house.get("/v1/jobs", limit=2).get_json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (ids[:2], True)
    assert (first["first_id"], first["last_id"]) == (ids[0], ids[1])
    second = house.get("/v1/jobs", limit=3, after=first["last_id"]).get_json()
    assert ([job["id"] for job in second["data"]], second["has_more"]) == (ids[2:], False)
    beyond = house.get("/v1/jobs", after=ids[-1]).get_json()
    assert beyond == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_a_job_counts_what_became_of_its_items(house: House) -> None:
    job_id = house.submit(6)
    held = house.lease()
    scores = [(0.9,), (0.6,), (0.1,), ()]
    house.record(held, [house.scanned(i.id, *map(face, s)) for i, s in zip(held.items, scores, strict=True)])
    job = house.get(f"/v1/jobs/{job_id}").get_json()
    assert (job["state"], job["ended_at"]) == ("running", None)
    held = house.lease()
    house.record(held, [failed(held.items[0].id), house.scanned(held.items[1].id, face(0.9, side=10))])
    job = house.get(f"/v1/jobs/{job_id}").get_json()
    assert job["state"] == "ended"
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]
    assert job["counts"] == {
        "total": 6, "pending": 0, "done": 5, "failed": 1, "canceled": 0,
        "fake": 1, "suspect": 1, "clear": 1, "no_face": 1, "inconclusive": 1,
        "rejected": 0,
    }  # fmt: skip


def test_a_result_says_all_that_was_found(house: House) -> None:
    job_id = house.submit(1)
    house.scan_all(face(0.9))
    item = house.get(f"/v1/jobs/{job_id}/items").get_json()["data"][0]
    assert set(item) == RESULT_KEYS
    assert (item["custom_id"], item["state"], item["verdict"], item["score"]) == ("0.jpg", "done", "fake", 0.9)
    assert item["reasons"] == ["1_of_1_faces_reach_fake"]
    assert item["faces"] == [
        {
            "box": {"left": 20, "top": 16, "width": 40, "height": 40},
            "detection_score": 0.9,
            "score": 0.9,
            "landmarks": [[30, 30]] * 6,
        }
    ]
    assert item["image"] == {"width": 160, "height": 120, "format": "PNG", "sha256": "b" * 64}
    assert item["model"] == {"name": "test", "version": "1", "weights_sha256": "a" * 64}
    assert (item["policy_version"], item["from_cache"], item["error"]) == ("default/test-1", False, None)
    assert house.get(f"/v1/items/{item['id']}").get_json() == item


def test_a_failed_item_has_an_error_and_nothing_else(house: House) -> None:
    job_id = house.submit(1)
    held = house.lease()
    house.record(held, [failed(held.items[0].id)])
    item = house.get(f"/v1/jobs/{job_id}/items").get_json()["data"][0]
    detail = "the first bytes are those of no image format"
    assert (item["state"], item["error"]) == ("failed", {"code": "not_an_image", "detail": detail})
    assert (item["verdict"], item["score"], item["image"], item["model"], item["faces"]) == (None, None, None, None, [])


def test_items_are_listed_in_order_and_narrowed(house: House) -> None:
    job_id = house.submit(7)
    held = house.lease()
    house.record(held, [failed(i.id) if n == 1 else house.scanned(i.id, face(0.9)) for n, i in enumerate(held.items)])
    every = house.get(f"/v1/jobs/{job_id}/items", limit=100).get_json()["data"]
    assert [item["custom_id"] for item in every] == [f"{n}.jpg" for n in range(7)]

    def names(**query: object) -> list[str]:
        return [item["custom_id"] for item in house.get(f"/v1/jobs/{job_id}/items", **query).get_json()["data"]]

    assert names(state="failed") == ["1.jpg"]
    assert names(state="pending") == ["4.jpg", "5.jpg", "6.jpg"]
    assert names(verdict="fake") == ["0.jpg", "2.jpg", "3.jpg"]
    assert names(verdict="fake", limit=1, after=every[0]["id"]) == ["2.jpg"]
    page = house.get(f"/v1/jobs/{job_id}/items", limit=3).get_json()
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, every[0]["id"], every[2]["id"])


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=101", "/limit"),
        ("limit=x", "/limit"),
        ("after=junk", "/after"),
        ("after=itm_0_99999999999999999999", "/after"),
        ("state=lost", "/state"),
        ("verdict=real", "/verdict"),
        ("sort=up", "/sort"),
    ],
)
def test_a_wrong_query_is_refused_with_a_pointer(house: House, query: str, pointer: str) -> None:
    answer = house.get(f"/v1/jobs/{house.submit(1)}/items?{query}")
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.get_json()["errors"]] == [pointer]


def test_a_cursor_of_another_job_is_refused(house: House) -> None:
    first, second = house.submit(2), house.submit(2)
    after = house.get(f"/v1/jobs/{second}/items").get_json()["first_id"]
    assert len(house.get(f"/v1/jobs/{second}/items", after=after).get_json()["data"]) == 1
    answer = house.get(f"/v1/jobs/{first}/items", after=after)
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/after")


def test_results_stream_what_is_done_so_far_and_then_all(house: House) -> None:
    job_id = house.submit(6)
    assert house.get(f"/v1/jobs/{job_id}/results").text == ""
    house.scan_all(face(0.2))
    answer = house.get(f"/v1/jobs/{job_id}/results")
    assert (answer.status_code, answer.mimetype) == (200, "application/jsonl")
    assert [json.loads(line)["custom_id"] for line in answer.text.splitlines()] == [f"{n}.jpg" for n in range(4)]
    house.scan_all()
    results = [json.loads(line) for line in house.get(f"/v1/jobs/{job_id}/results").text.splitlines()]
    assert [result["verdict"] for result in results] == ["clear"] * 4 + ["no_face"] * 2
    assert all(set(result) == RESULT_KEYS for result in results)


def test_results_are_read_in_pages_whose_seams_do_not_show(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PAGE", 3)
    job_id = house.submit(8)
    house.scan_all()
    house.scan_all()
    lines = house.get(f"/v1/jobs/{job_id}/results").text.splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == [f"{n}.jpg" for n in range(8)]


def test_an_account_has_four_results_read_to_it_at_a_time(house: House) -> None:
    job_id = house.submit(2)
    house.scan_all()
    path = f"/v1/jobs/{job_id}/results"
    for _ in range(5):
        house.client.head(path, headers=house.bearer).close()  # of which nothing is read
        assert house.get(path).text.count("\n") == 2
    answers = [house.get(path) for _ in range(4)]
    refused = house.get(path)
    assert (refused.status_code, refused.get_json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 0
    _, key = house.new_account("other")
    assert house.client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert answers.pop().text.count("\n") == 2
    last = house.get(path)
    assert last.status_code == 200
    for answer in (*answers, last):
        answer.close()


def test_canceling_ends_what_waits_and_lets_leased_items_finish(house: House) -> None:
    job_id = house.submit(6)
    held = house.lease()
    job = house.post(f"/v1/jobs/{job_id}/cancel").get_json()
    assert (job["state"], job["counts"]["canceled"], job["counts"]["pending"]) == ("canceling", 2, 4)
    house.record(held, [house.scanned(item.id) for item in held.items])
    job = house.get(f"/v1/jobs/{job_id}").get_json()
    assert (job["state"], job["counts"]["done"], job["counts"]["canceled"]) == ("ended", 4, 2)
    again = house.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.get_json()) == (200, job)


def test_a_view_is_the_workers_picture_and_may_do_nothing(house: House) -> None:
    job_id = house.submit(1)
    item_id = house.items(job_id)[0].id
    early = house.get(f"/v1/items/{item_id}/view")
    assert (early.status_code, early.get_json()["code"]) == (404, "not_found")
    house.scan_all()
    answer = house.get(f"/v1/items/{item_id}/view")
    assert (answer.data, answer.mimetype) == (picture(), "image/jpeg")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox;")


def test_a_view_that_was_deleted_by_hand_is_an_error_of_ours(house: House) -> None:
    item_id = house.items(house.submit(1))[0].id
    house.scan_all()
    for path in house.settings.blob_folder.rglob("*"):
        if path.is_file():
            path.unlink()
    answer = house.get(f"/v1/items/{item_id}/view")
    assert (answer.status_code, answer.get_json()["code"]) == (500, "blob_missing")


@pytest.mark.parametrize("path", ["/v1/jobs/{job}x", "/v1/jobs/job_%00", "/v1/items/{item}0", "/v1/items/x/view"])
def test_an_id_that_could_be_none_is_as_unknown_as_any(house: House, path: str) -> None:
    job_id = house.submit(1)
    answer = house.get(path.format(job=job_id, item=house.items(job_id)[0].id))
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    assert answer.get_json()["detail"].endswith("in this account")
