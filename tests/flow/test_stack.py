"""The whole system end to end: good, odd and hostile pictures in, one right result each out, whatever dies."""

import json
from pathlib import Path

import pytest

from deepfake_shield import Counts, Job, Result, Shield
from tests.flow import hostile
from tests.flow.conftest import FETCH_SECONDS, LIMIT, SAMPLES
from tests.flow.stack import Stack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

END_SECONDS = 240.0


def check(shield: Shield, job: Job, custom_ids: list[str]) -> dict[str, Result]:
    """Every item is there once, in order, terminal, and counted; the results by custom_id."""
    results = list(shield.results(job.id))
    assert [result.custom_id for result in results] == custom_ids
    assert results == list(shield.items(job.id))
    assert len({result.id for result in results}) == len(custom_ids)
    assert all(result.terminal for result in results)
    outcomes = [result.verdict or result.state for result in results]
    names = ("fake", "suspect", "clear", "no_face", "inconclusive", "failed", "canceled")
    counted = {name: outcomes.count(name) for name in names}
    done = len(custom_ids) - counted["failed"] - counted["canceled"]
    assert job.counts == Counts(total=len(custom_ids), pending=0, done=done, **counted)
    return {result.custom_id or "": result for result in results}


def test_a_worker_killed_in_mid_job_costs_no_item_and_doubles_none(
    stack: Stack, shield: Shield, samples: list[Path], tmp_path: Path
) -> None:
    fates = hostile.write(tmp_path / "hostile", SAMPLES / "originals" / "hopper.jpg")
    given = [*samples, *sorted((tmp_path / "hostile").iterdir()), *samples[::-1]]
    job = shield.submit(given, name="hostile")

    stack.wait_for(lambda: shield.job(job.id).counts.terminal > 0, END_SECONDS, "the first result")
    killed = stack.kill("scan")
    assert shield.job(job.id).counts.pending > 0
    stack.wait_for(lambda: stack.children()["scan"] not in (None, killed), 60, "another scan worker")
    ended = shield.wait(job.id, timeout=END_SECONDS)

    check(shield, ended, [str(path) for path in given])
    expected = json.loads((SAMPLES / "expected.json").read_text())
    for result in shield.results(job.id):
        path = Path(result.custom_id or "")
        if path.parent.name == "hostile":
            check_fate(result, fates[path.name])
        else:
            assert result.state == "done", path
            assert len(result.faces) == expected[str(path.relative_to(SAMPLES))]["faces"], path


def check_fate(result: Result, fate: hostile.Fate) -> None:
    assert result.error_code == fate.code, result
    if fate.code is not None:
        assert result.state == "failed"
        assert result.error_detail
        return
    assert len(result.faces) == fate.faces, result
    image = result.raw["image"]
    assert (image["width"], image["height"]) == fate.size
    box = result.faces[0].box
    (_, right_eye), (_, left_eye), _, (_, mouth), *_ = result.faces[0].landmarks
    assert box.top < min(right_eye, left_eye) < max(right_eye, left_eye) < mouth < box.top + box.height  # upright


def test_a_url_is_scanned_or_says_why_not(shield: Shield, web: str) -> None:
    fates = {
        f"{web}/good.jpg": None,
        f"{web}/moved.jpg": None,
        f"{web}/missing.jpg": "404",
        f"{web}/slow.jpg": f"timed out after {FETCH_SECONDS} s",
        f"{web}/huge.jpg": f"larger than the limit of {LIMIT} bytes",
        f"{web}/inside.jpg": "169.254.169.254 is not public",
        "http://127.0.0.1:1/closed.jpg": "connection failed",
    }
    job = shield.wait(shield.submit(list(fates)).id, timeout=END_SECONDS)
    results = check(shield, job, list(fates))
    for url, words in fates.items():
        if words is None:
            assert (results[url].state, len(results[url].faces)) == ("done", 1), url
        else:
            assert results[url].error_code == ("too_large" if "larger" in words else "fetch_failed"), url
            assert words in (results[url].error_detail or ""), url


def test_an_api_that_is_killed_comes_back_and_has_forgotten_nothing(
    stack: Stack, shield: Shield, samples: list[Path]
) -> None:
    job = shield.submit(samples[:2])
    killed = stack.kill("api")
    stack.wait_for(lambda: stack.children()["api"] not in (None, killed), 60, "another API")
    ended = shield.wait(job.id, timeout=END_SECONDS)
    check(shield, ended, [str(path) for path in samples[:2]])


def test_a_queue_that_is_killed_loses_no_work(stack: Stack, shield: Shield, samples: list[Path]) -> None:
    killed = stack.kill("redis")
    job = shield.submit(samples[:2])
    ended = shield.wait(job.id, timeout=END_SECONDS)
    check(shield, ended, [str(path) for path in samples[:2]])
    stack.wait_for(lambda: stack.children()["redis"] not in (None, killed), 60, "another queue")
