"""docs/submitting.md, run from top to bottom: every kind of source, on PostgreSQL with an S3 store."""

import re
import shutil
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from deepfake_shield import Shield
from tests import postgres, s3
from tests.flow.conftest import SAMPLES, Web
from tests.flow.stack import ROOT, Stack

PAGE = ROOT / "docs" / "submitting.md"
PHOTO = SAMPLES / "originals" / "collins.jpg"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the commands of docs/submitting.md are not run")
    store = s3.moto()
    store.client.create_bucket(Bucket="acme-photos")
    for name in ("beach.jpg", "party.jpg"):
        store.client.put_object(Bucket="acme-photos", Key=f"2026/{name}", Body=PHOTO.read_bytes())
        shutil.copy(PHOTO, tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    with postgres.server().database() as url:
        stack = Stack(
            tmp_path / "home",
            SHIELD_DATABASE_URL=url,
            SHIELD_BLOBS=f"s3://{store.new_bucket()}/shield",
            SHIELD_S3_ENDPOINT_URL=store.url,
            SHIELD_EGRESS_ALLOW_LOOPBACK="true",
            SHIELD_LEASE_POLL_SECONDS="0.2",
            **s3.CREDENTIALS,
        )
        try:
            stack.until_ready()
            grant = (sys.executable, "-m", "shield", "allow-s3", "default", "s3://acme-photos/2026/")
            subprocess.run(grant, cwd=ROOT, env=stack.env, check=True)
            ran = run_page(tmp_path, stack)
            assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}\n{stack.logs()}"
            check(stack, ran.stdout)
        finally:
            assert stack.stop() == 0


def run_page(folder: Path, stack: Stack) -> "subprocess.CompletedProcess[str]":
    """Run the page's commands in one shell, in this folder, as somebody would who pastes them."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        told = {
            "DEEPFAKE_SHIELD_URL": stack.url,
            "DEEPFAKE_SHIELD_KEY": stack.key,
            "PHOTO_URL": f"http://127.0.0.1:{web.server_port}/good.jpg",
        }
        script = "set -eu\n" + "\n".join(BLOCK.findall(PAGE.read_text()))
        line = ("sh", "-c", script)
        return subprocess.run(
            line, check=False, cwd=folder, env=stack.env | told, capture_output=True, text=True, timeout=100
        )
    finally:
        web.shutdown()
        web.server_close()


def check(stack: Stack, printed: str) -> None:
    """What the commands left: every job of the page with the results that it promises."""
    with Shield(stack.url, stack.key) as shield:
        every = list(shield.jobs())
        jobs = {job.name: job for job in every}
        assert '"code":"not_json"' in printed.replace(" ", "")
        for name, done in (("holiday", 2), ("profile pictures", 2), ("backlog", 2), ("archive", 2), ("the bucket", 2)):
            job = shield.wait(jobs[name].id)
            assert (job.counts.done, job.counts.failed) == (done, 0), name
        retried = [job for job in every if job.retry_of]
        assert [shield.wait(job.id).counts.failed for job in retried] == [1]
