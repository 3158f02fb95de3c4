"""The HTTP connection: the key, what is repeated, and problems turned into errors.

Every request may be repeated: one that makes a job carries an idempotency key, all others can be done twice.
"""

import email.utils
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from deepfake_shield.errors import (
    KINDS,
    AnswerLost,
    ApiError,
    NotConfigured,
    ServerFailed,
    ServerUnreachable,
    ShieldError,
)
from deepfake_shield.version import VERSION

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each repetition, unless the server says how long
LONGEST_WAIT = 120.0  # seconds; a server that asks for more is given up on: the caller decides
CONNECT_SECONDS = 5.0
REFUSED = (429, 503)  # the server says that it did not take the request
GATEWAY = (502, 504)  # something in between does not know whether it did
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
LOOPBACK = ("127.0.0.1", "::1", "localhost")

MakeRequest = Callable[[], httpx.Request]
OnRepeat = Callable[[ShieldError, float], None]


class Connection:
    """Requests with a key. `timeout` is in seconds without a sign of life.

    `on_repeat` is told why a request is repeated and after how many seconds; it need not wait.
    """

    def __init__(self, url: str, key: str, timeout: float, on_repeat: OnRepeat) -> None:
        try:
            base = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise NotConfigured(f"{url!r} is not a URL: {error}") from error
        if base.scheme not in ("http", "https") or not base.host:
            raise NotConfigured(f"{url!r} is not the URL of a server: it should look like http://127.0.0.1:8000")
        if not key.isascii() or not key.isprintable():
            raise NotConfigured("the key holds characters that no key has: copy it again")
        self.url = str(base).rstrip("/")
        self._on_repeat = on_repeat
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}", "User-Agent": f"deepfake-shield-python/{VERSION}"},
            timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS),
            # Shorter than servers keep idle connections: no request is sent into one that is being closed.
            limits=httpx.Limits(keepalive_expiry=1.0),
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=base.host not in LOOPBACK,
        )

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Request:
        """Build a request; `arguments` are those of httpx."""
        return self._client.build_request(method, path, **arguments)

    def get(self, path: str, **params: object) -> dict[str, Any]:
        """Answer GET with its JSON object; parameters that are None are left out.

        Raises ApiError, ServerUnreachable, AnswerLost.
        """
        wanted = {name: str(value) for name, value in params.items() if value is not None}
        with self.send(lambda: self.request("GET", path, params=wanted)) as response:
            return _object(response)

    def post(self, make: MakeRequest) -> dict[str, Any]:
        """Answer a POST that `make` builds with its JSON object. Raises ApiError, ServerUnreachable, AnswerLost."""
        with self.send(make) as response:
            return _object(response)

    @contextmanager
    def send(self, make: MakeRequest) -> Iterator[httpx.Response]:
        """Open a response whose body is not read yet.

        What the server refused, never got, or may have done without our hearing of it is repeated after a while.
        """
        response = self._send_until_taken(make)
        try:
            yield response
        except httpx.RequestError as error:
            raise AnswerLost(f"the answer of {self.url} broke off ({_reason(error)}): ask again") from error
        finally:
            response.close()

    def _send_until_taken(self, make: MakeRequest) -> httpx.Response:
        for wait in WAITS:
            answer = self._send_once(make)
            if isinstance(answer, httpx.Response):
                return answer
            pause = answer.retry_after if isinstance(answer, ApiError) else None
            if pause is None:
                pause = wait * random.uniform(1.0, 1.5)  # noqa: S311 - clients refused together come back apart
            elif pause > LONGEST_WAIT:
                raise answer
            self._on_repeat(answer, pause)
            time.sleep(pause)
        answer = self._send_once(make)
        if isinstance(answer, ShieldError):
            raise answer
        return answer

    def _send_once(self, make: MakeRequest) -> httpx.Response | ShieldError:
        """Give the answer, or the error after which the request may be repeated; raises the error after which not."""
        try:
            response = self._client.send(make(), stream=True)
        except NEVER_SENT as error:
            return ServerUnreachable(
                f"no server answers at {self.url} ({_reason(error)}): is it running, and is this its URL?"
            )
        except httpx.RequestError as error:
            return AnswerLost(
                f"the connection to {self.url} broke before the answer came ({_reason(error)}). "
                "The server may have done what was asked: look at your jobs before you ask again"
            )
        if response.is_success:
            return response
        problem = _problem(response)
        if response.status_code in (*REFUSED, *GATEWAY):
            return problem
        raise problem

    def close(self) -> None:
        """Close every connection."""
        self._client.close()


def _problem(response: httpx.Response) -> ApiError:
    """Turn an answer that is no success into an error; one that is no problem+json is told in short."""
    number = response.status_code
    try:
        problem = json.loads(response.read())
    except (ValueError, httpx.RequestError):
        problem = None
    finally:
        response.close()
    kind = KINDS.get(number, ServerFailed)
    wait = _retry_after(response.headers.get("Retry-After"))
    if not isinstance(problem, dict):
        where = response.headers.get("Location")
        detail = f"the server answered {number} {response.reason_phrase}" + (f" to {where}" if where else "")
        return kind(f"http_{number}", detail, number, retry_after=wait)
    code = str(problem.get("code") or f"http_{number}")
    detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    pointers = tuple(str(fault.get("pointer", "")) for fault in problem.get("errors") or ())
    return kind(code, detail, number, pointers, wait)


def _retry_after(text: str | None) -> float | None:
    """Give the seconds of a Retry-After header, which holds seconds or a date; None where it holds neither."""
    if text is None:
        return None
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.read())
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        detail = f"{response.url} answered with something that is no JSON object: is this the server's URL?"
        raise ServerFailed("not_json", detail, response.status_code)
    return answer


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
