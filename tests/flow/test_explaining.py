"""Somebody asks why a face scores as it does: the real networks answer, though their process is killed meanwhile."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from PIL import Image

from deepfake_shield import Shield
from tests.flow.conftest import SAMPLES
from tests.flow.stack import ROOT, Stack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

END_SECONDS = 240.0


def token_of(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


@contextmanager
def browser(stack: Stack) -> Iterator[httpx.Client]:
    """Signed in by a link, as an operator is."""
    line = [sys.executable, "-m", "shield", "link"]
    printed = subprocess.run(line, cwd=ROOT, env=stack.env, capture_output=True, text=True, check=True).stdout
    path = re.search(r"/session/\S+", printed)
    assert path, printed
    with httpx.Client(base_url=stack.url, follow_redirects=True) as client:
        page = client.get(path[0])
        assert client.post(path[0], data={"form_token": token_of(page)}).is_success
        yield client


def test_why_a_face_scores_as_it_does_is_answered_though_the_worker_is_killed(stack: Stack, shield: Shield) -> None:
    fake = SAMPLES / "fakes" / "collins_with_hopper.jpg"
    job = shield.wait(shield.submit([fake], name="why").id, timeout=END_SECONDS)
    (result,) = shield.results(job.id)
    with browser(stack) as client:
        killed = stack.kill("scan")
        form = {"form_token": token_of(client.get("/"))}
        assert client.post(f"/items/{result.id}/explain", data=form).is_success
        path = f"/items/{result.id}/explanation"
        assert client.get(path).json()["state"] == "pending"
        stack.wait_for(lambda: stack.children()["scan"] not in (None, killed), 60, "another scan worker")
        stack.wait_for(lambda: client.get(path).json()["state"] == "ready", END_SECONDS, "the explanation")
        shown = client.get(path).json()
        assert (shown["picture"], shown["same_weights"]) == ("original", True)
        (face,) = shown["faces"]
        assert face["score"] == pytest.approx(result.faces[0].score, abs=1e-4)
        assert len(face["stability"]) == 5
        with Image.open(io.BytesIO(client.get(face["crop"]).content)) as crop:
            assert crop.format == "JPEG"
        with Image.open(io.BytesIO(client.get(face["heatmap"]).content)) as heatmap:
            assert (heatmap.format, heatmap.mode, heatmap.size) == ("PNG", "RGBA", crop.size)
