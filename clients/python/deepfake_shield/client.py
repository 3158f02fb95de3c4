"""The client: submit images, wait, read results; look at cases, and decide them."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

import httpx

from deepfake_shield.cases import Case, Decision, Ruling
from deepfake_shield.connection import Connection, OnRepeat
from deepfake_shield.errors import MixedSources, NotConfigured, WaitTimedOut
from deepfake_shield.results import Counts, Job, Result
from deepfake_shield.sources import FileSource, Given, LateFile, Source, find, split

DEFAULT_URL = "http://127.0.0.1:8000"
PAGE = 100  # jobs or items read at a time
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two looks at a job

OnProgress = Callable[[Counts], None]
OnUpload = Callable[[int, int], None]


class Shield:
    """A Deepfake Shield server, seen with one account's key. Close it after use, or use it in a `with` statement.

    URL and key default to the environment's DEEPFAKE_SHIELD_URL and DEEPFAKE_SHIELD_KEY. `timeout` is in seconds
    without a sign of life from the server; `on_repeat(error, seconds)` is told before a request is repeated. Raises
    NotConfigured without a key. Every method raises ServerUnreachable, AnswerLost or a kind of ApiError where its
    request fails.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        on_repeat: OnRepeat = lambda _error, _seconds: None,
    ) -> None:
        url = url or os.environ.get("DEEPFAKE_SHIELD_URL") or DEFAULT_URL
        key = key or os.environ.get("DEEPFAKE_SHIELD_KEY")
        if not key:
            raise NotConfigured("no API key: set DEEPFAKE_SHIELD_KEY to the key that the server printed, or pass one")
        self._connection = Connection(url, key, timeout, on_repeat)

    def scan(
        self, given: Given | Iterable[Given], *, name: str = "", on_progress: OnProgress | None = None
    ) -> Iterator[Result]:
        """Submit files, folders and URLs at once; iterating waits for the end, then gives each result.

        Results come in the order of what was given, files before URLs.
        """
        jobs = [job.id for job in self.submit_all(given, name=name)]
        return self._results_at_end(jobs, on_progress)

    def _results_at_end(self, jobs: list[str], on_progress: OnProgress | None) -> Iterator[Result]:
        self.wait_all(jobs, on_progress)
        for job in jobs:
            yield from self.results(job)

    def submit(self, given: Given | Iterable[Given], *, name: str = "", on_upload: OnUpload | None = None) -> Job:
        """Submit files and folders, or URLs, as one job, which is durable when this returns.

        `on_upload` is told bytes sent and bytes in all. Raises NothingToScan; MixedSources for files with URLs;
        TooLarge or InvalidRequest when it is too much for one job.
        """
        sources = find(given)
        if len({type(one) for one in sources}) > 1:
            raise MixedSources("a job takes files or URLs: submit them apart, or together with submit_all()")
        return self._submit(sources, name, on_upload)

    def submit_all(
        self, given: Given | Iterable[Given], *, name: str = "", on_upload: OnUpload | None = None
    ) -> Iterator[Job]:
        """Submit like `submit`, in as many jobs as it takes; gives each as soon as it is durable.

        Raises NothingToScan.
        """
        for share in split(find(given)):
            yield self._submit(share, name, on_upload)

    def _submit(self, sources: list[Source], name: str, on_upload: OnUpload | None) -> Job:
        headers = _once()
        answer = self._connection.post(lambda: self._submission(sources, name, headers, on_upload))
        return Job.from_json(answer)

    def _submission(
        self, sources: list[Source], name: str, headers: dict[str, str], on_upload: OnUpload | None
    ) -> httpx.Request:
        """Build the request that submits sources of one kind: files are read from disk while they are sent."""
        custom_ids = [one.custom_id for one in sources]
        if not isinstance(sources[0], FileSource):
            items = [{"url": one, "custom_id": one} for one in custom_ids]
            return self._connection.request("POST", "/v1/jobs", headers=headers, json={"name": name, "items": items})
        # A field of its own for each custom_id: a file name in a multipart head cannot hold every character.
        fields = {"name": name, "custom_id": custom_ids}
        files = [("file", ("image", LateFile(one))) for one in sources if isinstance(one, FileSource)]
        request = self._connection.request("POST", "/v1/jobs", headers=headers, data=fields, files=files)
        if on_upload is None:
            return request
        body = _counted(request, int(request.headers["Content-Length"]), on_upload)
        return self._connection.request("POST", "/v1/jobs", content=body, headers=request.headers)

    def job(self, job_id: str) -> Job:
        """A job as it stands now."""
        return Job.from_json(self._connection.get(_path(job_id)))

    def jobs(self) -> Iterator[Job]:
        """All jobs of the account, newest first, read page by page."""
        return map(Job.from_json, self._pages("/v1/jobs"))

    def items(self, job_id: str, *, state: str | None = None, verdict: str | None = None) -> Iterator[Result]:
        """Items of a job in the order of submission, whatever their state, or those of one state or verdict."""
        return map(Result.from_json, self._pages(f"{_path(job_id)}/items", state=state, verdict=verdict))

    def results(self, job_id: str) -> Iterator[Result]:
        """Terminal items of a job in the order of submission, read as a stream; usable while the job runs."""
        return map(Result.from_json, self._lines(f"{_path(job_id)}/results"))

    def cases(
        self,
        *,
        state: str | None = None,
        verdict: str | None = None,
        reason: str | None = None,
        level: str | None = None,
        job_id: str | None = None,
        custom_id: str | None = None,
        sort: str | None = None,
    ) -> Iterator[Case]:
        """Cases that await a human, the most urgent first, or those of one kind, read page by page.

        `state`: open, claimed or decided. `sort`: priority, age or score. `custom_id`: a part of it.
        """
        wanted = {"state": state, "verdict": verdict, "reason": reason, "level": level, "job_id": job_id}
        return map(Case.from_json, self._pages("/v1/cases", **wanted, custom_id=custom_id, sort=sort))

    def case(self, case_id: str) -> Case:
        """A case with its item and all that was answered to it."""
        return Case.from_json(self._connection.get(f"/v1/cases/{quote(case_id, safe='')}"))

    def decide(self, case_id: str, answer: str, *, reason: str | None = None, note: str = "") -> Decision:
        """Answer a case that nobody else has claimed: uphold, overturn, escalate or skip.

        Raises InvalidRequest where somebody else has or decided it, its `code` says which; and where an answer was lost
        and the request is repeated, `already_decided` may be this one's own.
        """
        path, body = f"/v1/cases/{quote(case_id, safe='')}/decision", {"answer": answer, "reason": reason, "note": note}
        return Decision.from_json(self._connection.post(lambda: self._connection.request("POST", path, json=body)))

    def decisions(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Ruling]:
        """Decisions that stand, the oldest first, each with its item, read as a stream: for training.

        Made at `since` or later, and before `until`, which must be aware of their zone.
        """
        wanted = {"since": since, "until": until}
        moments = {name: moment.isoformat() for name, moment in wanted.items() if moment is not None}
        return map(Ruling.from_json, self._lines("/v1/decisions", **moments))

    def cancel(self, job_id: str) -> Job:
        """Cancel what no worker holds yet; an ended job stays as it is."""
        path = f"{_path(job_id)}/cancel"
        return Job.from_json(self._connection.post(lambda: self._connection.request("POST", path)))

    def retry(self, job_id: str) -> Job:
        """Make a new job of the items of an ended job that failed; they are not sent again.

        Raises InvalidRequest while the job runs, or where nothing failed.
        """
        path, headers = f"{_path(job_id)}/retry", _once()
        return Job.from_json(self._connection.post(lambda: self._connection.request("POST", path, headers=headers)))

    def delete(self, job_id: str) -> None:
        """Delete an ended job with its results and images. Raises InvalidRequest while it runs.

        Where an answer was lost and the request is repeated, NotFound says that the first one did it.
        """
        with self._connection.send(lambda: self._connection.request("DELETE", _path(job_id))):
            pass

    def wait(self, job_id: str, on_progress: OnProgress | None = None, timeout: float | None = None) -> Job:
        """Look at a job until it has ended, and give it.

        Raises WaitTimedOut after `timeout` seconds; the job goes on.
        """
        return self.wait_all([job_id], on_progress, timeout)[0]

    def wait_all(
        self, job_ids: Iterable[str], on_progress: OnProgress | None = None, timeout: float | None = None
    ) -> list[Job]:
        """Look at several jobs until all have ended; `on_progress` is told their counts taken together."""
        jobs = [self.job(one) for one in job_ids]
        start, pause = time.monotonic(), FIRST_PAUSE
        while True:
            if on_progress:
                on_progress(Counts.sum(job.counts for job in jobs))
            open_jobs = [job.id for job in jobs if not job.ended]
            if not open_jobs:
                return jobs
            if timeout is not None and time.monotonic() - start >= timeout:
                raise WaitTimedOut(f"not ended after {timeout:g} s, and still going on: {', '.join(open_jobs)}")
            time.sleep(pause)
            pause = min(pause * 1.25, LONGEST_PAUSE)
            jobs = [job if job.ended else self.job(job.id) for job in jobs]

    def _lines(self, path: str, **params: str) -> Iterator[dict[str, Any]]:
        with self._connection.send(lambda: self._connection.request("GET", path, params=params)) as response:
            for line in response.iter_lines():
                if line:
                    yield json.loads(line)

    def _pages(self, path: str, **params: object) -> Iterator[dict[str, Any]]:
        after = None
        while True:
            page = self._connection.get(path, limit=PAGE, after=after, **params)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["last_id"]

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _once() -> dict[str, str]:
    """A new idempotency key: however often the request is repeated with it, it makes one job."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _counted(request: httpx.Request, size: int, on_upload: OnUpload) -> Iterator[bytes]:
    sent = 0
    assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 - what a request of a Client holds
    for chunk in request.stream:
        yield chunk
        sent += len(chunk)
        on_upload(sent, size)
