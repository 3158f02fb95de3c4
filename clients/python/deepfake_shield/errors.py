"""What can go wrong, by name. Every error carries a stable `code`; its message says what to do next.

ShieldError
├── NotConfigured       no URL or key was given
├── NothingToScan       a path that is not there, or folders without an image
├── MixedSources        files and URLs for one job, which takes either
├── ServerUnreachable   no connection; nothing was accepted
├── AnswerLost          the connection broke after a request was sent, each time; the server may have acted on it
├── WaitTimedOut        the job goes on; only the waiting ended
├── NotVerified         a webhook's delivery that may not be the server's
├── CannotListen        the receiver's port is taken
└── ApiError            the server answered with a problem (RFC 9457)
    ├── Unauthorised    401, 403
    ├── NotFound        404
    ├── TooLarge        413
    ├── InvalidRequest  400, 409, 415, 422
    ├── Busy            429, 503: still so after every repetition
    └── ServerFailed    any other answer
"""


class ShieldError(Exception):
    """The root of everything that this package raises on purpose."""

    code = "error"


class NotConfigured(ShieldError):
    """No URL or key was given."""

    code = "not_configured"


class NothingToScan(ShieldError):
    """A path that is not there, or folders without an image."""

    code = "nothing_to_scan"


class MixedSources(ShieldError):
    """Files and URLs for one job, which takes either."""

    code = "mixed_sources"


class ServerUnreachable(ShieldError):
    """No connection could be made; nothing was accepted."""

    code = "server_unreachable"


class AnswerLost(ShieldError):
    """The connection broke after the request was sent, also at every repetition."""

    code = "answer_lost"


class WaitTimedOut(ShieldError):
    """The job had not ended in the time that was given to wait. It goes on."""

    code = "wait_timed_out"


class NotVerified(ShieldError):
    """A delivery whose signature or timestamp does not show that the server sent it just now."""

    code = "not_verified"


class CannotListen(ShieldError):
    """The port of the receiver is taken."""

    code = "cannot_listen"


class ApiError(ShieldError):
    """The server answered with a problem.

    `code` is the server's stable code, `detail` its sentence, `http_status` the answer's number, `pointers` are JSON
    pointers to what does not fit in the request, `retry_after` the seconds that the server asked to wait, if it did.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        http_status: int,
        pointers: tuple[str, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail
        self.http_status = http_status
        self.pointers = pointers
        self.retry_after = retry_after


class Unauthorised(ApiError):
    """The key is missing, unknown or revoked."""


class NotFound(ApiError):
    """No such thing in this account."""


class TooLarge(ApiError):
    """More than the server takes in one request."""


class InvalidRequest(ApiError):
    """The server understood the request and refuses it."""


class Busy(ApiError):
    """The server cannot take the request now; nothing was accepted."""


class ServerFailed(ApiError):
    """The server failed, or something that is not the server answered."""


KINDS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorised,
    403: Unauthorised,
    404: NotFound,
    409: InvalidRequest,
    413: TooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Busy,
    503: Busy,
}
