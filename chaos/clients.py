"""Clients that submit, follow, cancel and retry jobs whatever breaks, and note all that they are told."""

import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from chaos.history import History

RETRY_PAUSE = 0.2  # seconds until a request that failed is sent again
BAD_EVERY = 50  # lines of a manifest of which one is no JSON
LOOKS = 3  # at jobs under way, between two submissions
PAGE = 100


@dataclass
class Quota:
    """What one client is to submit: so many images, spread over so many seconds, and then on until `enough`."""

    images: int
    seconds: float
    enough: threading.Event


@dataclass
class Client:
    """One account's client. `poison`, `cancels` and `manifests` count the images and requests that it owes of each."""

    name: str
    http: httpx.Client
    history: History
    random: random.Random
    quota: Quota
    poison: int = 0
    cancels: int = 0
    manifests: int = 0
    sent: int = 0
    gave_up: bool = False
    troubles: dict[str, int] = field(default_factory=dict)
    live: dict[str, bool] = field(default_factory=dict)  # by job id: whether its failed images may be retried
    _jobs: list[str] = field(default_factory=list)
    _number: int = 0

    def subscribe(self, url: str) -> str:
        """Have the ends of jobs told to this URL; the secret that signs them. Before anything breaks."""
        asked = {"url": url, "events": ["job.ended", "job.canceled"]}
        secret: str = self.http.post("/v1/webhooks", json=asked).raise_for_status().json()["secret"]
        return secret

    def run(self) -> None:
        """Submit until the quota is met and the faults are over."""
        began = time.monotonic()
        while not self.gave_up and (self.sent < self.quota.images or not self.quota.enough.is_set()):
            self._submit()
            for job_id in self.random.sample(sorted(self.live), min(LOOKS, len(self.live))):
                self._look(job_id)
            due = began + self.quota.seconds * self.sent / self.quota.images
            while time.monotonic() < due and not self.quota.enough.is_set():
                time.sleep(0.05)
                if self.live and self.random.random() < 0.1:
                    self._look(self.random.choice(sorted(self.live)))
            if self.sent >= self.quota.images:
                time.sleep(0.1)

    def follow(self) -> int:
        """Look at every job that has not ended; how many have not."""
        for job_id in sorted(self.live):
            self._look(job_id, may_retry=False)
        return len(self.live)

    def look_back(self) -> None:
        """Look at every job once more."""
        for job_id in self._jobs:
            self._look(job_id, may_retry=False)

    def _submit(self) -> None:
        self._number += 1
        key = f"{self.name}-{self._number}"
        most = max(self.quota.images // 4, 8)
        kind = self.random.choices(("small", "middle", "manifest", "files"), (45, 30, 15, 10))[0]
        if self.quota.images <= self.sent or (self.poison and kind == "files"):
            kind = "small"
        if self.manifests:
            self.manifests -= 1
            kind = "manifest"
        size = self.random.randint(*{"small": (1, 24), "middle": (25, 200), "manifest": (100, 1500)}.get(kind, (1, 8)))
        size = min(size, most)
        poisonous = self.poison > 0
        self.poison -= poisonous
        if kind == "files":
            # The first two clients' files are the same, so that stored bytes are shared.
            sent = [("files", (f"{key}/{n}", f"bytes {n % 4} of {self._number % 7}".encode())) for n in range(size)]
            asked: dict[str, Any] = {"files": sent}
        else:
            items = [{"url": self._url(key, n), "custom_id": f"{key}/{n}"} for n in range(size)]
            if poisonous:
                items[self.random.randrange(size)]["url"] = f"https://photos.example/poison/{key}.jpg"
            asked = {"content": _manifest(items)} if kind == "manifest" else {"json": {"items": items}}
            if kind == "manifest":
                asked["headers"] = {"Content-Type": "application/jsonl"}
        job = self._ask("POST", "/v1/jobs", key, **asked)
        if job is None:
            return
        self.sent += size
        self._accepted(job, key, not poisonous, kind=kind, count=size)
        if self.cancels or self.random.random() < 0.04:
            self.cancels = max(0, self.cancels - 1)
            self._cancel(job["id"])

    def _url(self, key: str, number: int) -> str:
        """An image of its own; now and then one that was sent before, which need not be scanned twice."""
        if self.random.random() < 0.05:
            return f"https://photos.example/{self.name}/again/{number % 20}.jpg"
        return f"https://photos.example/{key}/{number}.jpg"

    def _accepted(self, job: dict[str, Any], key: str, may_retry: bool, **facts: Any) -> None:
        self.history.note(told="accepted", client=self.name, job=job["id"], key=key, **facts)
        self.live[job["id"]] = may_retry
        self._jobs.append(job["id"])

    def _cancel(self, job_id: str) -> None:
        self.history.note(asked="cancel", client=self.name, job=job_id)
        job = self._ask("POST", f"/v1/jobs/{job_id}/cancel")
        if job is not None:
            self._noted(job)

    def _look(self, job_id: str, *, may_retry: bool = True) -> None:
        job = self._ask("GET", f"/v1/jobs/{job_id}")
        if job is None:
            return
        self._noted(job)
        ended = job["state"] == "ended"
        if ended or self.random.random() < 0.2:
            failed = self._read_results(job)
            if ended and may_retry and self.live.get(job_id) and failed and self.random.random() < 0.5:
                self._retry(job_id)
        if ended:
            self.live.pop(job_id, None)

    def _noted(self, job: dict[str, Any]) -> None:
        counts = {name: job["counts"][name] for name in ("total", "pending", "done", "failed", "canceled")}
        self.history.note(told="job", client=self.name, job=job["id"], state=job["state"], counts=counts)

    def _read_results(self, job: dict[str, Any]) -> bool:
        """Note a page of results; whether an image of the job failed."""
        page = self._ask("GET", f"/v1/jobs/{job['id']}/items?limit={PAGE}")
        if page is None:
            return False
        ended = [item for item in page["data"] if item["state"] not in ("pending", "leased")]
        results = [
            [i["custom_id"], i["state"], i["verdict"], i["score"], i["error"] and i["error"]["code"]] for i in ended
        ]
        self.history.note(told="results", client=self.name, job=job["id"], results=results)
        return bool(job["counts"]["failed"])

    def _retry(self, job_id: str) -> None:
        failed: list[str] = []
        after = ""
        while True:
            page = self._ask("GET", f"/v1/jobs/{job_id}/items?state=failed&limit={PAGE}{after}")
            if page is None:
                return
            failed += [item["custom_id"] for item in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        self._number += 1
        key = f"{self.name}-{self._number}"
        job = self._ask("POST", f"/v1/jobs/{job_id}/retry", key)
        if job is not None:
            self._accepted(job, key, False, kind="retry", names=failed)

    def _ask(self, method: str, path: str, key: str = "", **asked: Any) -> dict[str, Any] | None:
        """Ask until there is an answer, under one idempotency key; None when the client gave up."""
        headers = asked.pop("headers", {}) | ({"Idempotency-Key": key} if key else {})
        while not self.gave_up:
            try:
                answer = self.http.request(method, path, headers=headers, **asked)
            except httpx.TransportError as error:
                self._trouble(type(error).__name__)
            else:
                if answer.is_success:
                    found: dict[str, Any] = answer.json()
                    return found
                self._trouble(str(answer.status_code))
                if answer.status_code < 500:
                    self.history.note(trouble=answer.text, path=path, client=self.name)
                    return None
                if answer.status_code == 500:
                    self.history.note(trouble=answer.text, path=path, client=self.name)
            time.sleep(RETRY_PAUSE)
        return None

    def _trouble(self, what: str) -> None:
        self.troubles[what] = self.troubles.get(what, 0) + 1


def _manifest(items: list[dict[str, str]]) -> bytes:
    """A line for each image, and between them lines that are none."""
    lines = []
    for number, item in enumerate(items):
        if number % BAD_EVERY == BAD_EVERY - 1:
            lines.append("not JSON\n")
        lines.append(json.dumps(item) + "\n")
    return "".join(lines).encode()
