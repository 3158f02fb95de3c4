"""What can go wrong, by name. Every error carries a stable `code` that clients may rely on.

ShieldError
├── InvalidSubmission    422  the body is well-formed but cannot become a job, or a webhook
│   ├── NotJsonLines           a manifest that is not JSON Lines
│   ├── NotAZip                an archive that cannot be read
│   ├── UnsafeZip              an archive with a member that leads out of it, or is no plain file
│   ├── ZipBomb                an archive that unpacks to more than it may
│   ├── UnsafeUrl              a webhook's URL that is malformed, not https, or leads to no public address
│   ├── WeakSecret             a webhook's secret that is too short, or no secret at all
│   └── TooManyEndpoints       the account has as many webhooks as it may
├── NotFound             404  no such thing in this account
├── CaseTaken            409  somebody else has the case
├── ClaimLost            409  the claim on the case ran out: claim it again
├── AlreadyDecided       409  the case is decided
├── NothingToUndo        409  nothing was answered to the case that could be taken back
├── JobRunning           409  the job has not ended: cancel it, or wait
├── NothingToRetry       409  no item of the job failed
├── DraftChanged         409  the draft of the policy is not the one that was looked at
├── NothingToExplain     409  no face of the item has a score
├── EndpointDisabled     409  the webhook is disabled: enable it first
├── IdempotencyKeyReused 422  the key belongs to another request
├── Unauthorised         401  no key, an unknown, revoked or expired key, a spent link, a wrong password
├── ScopeMissing         403  the key, or the role, may not do this
├── StorageUnavailable   503  the database or the blob store cannot take the work: try again
├── BacklogFull          503  too many items wait already: try again later
├── RateLimited          429  too many requests: wait
├── QuotaUsed            429  the account has submitted as many images as it may today
├── TooManyDecisions     429  one person decided more cases within a minute than one may
├── BlobMissing          500  a stored object is gone
├── UploadUrlInvalid     403  the signature is not that of this upload's URL
├── UploadUrlExpired     403  the upload's URL can no longer be used
├── AuditBroken          --   the audit log was tampered with
├── SealBroken           --   a stored secret was sealed under another key: fails the try of a delivery
├── SourceFailed         --   a job's source cannot be read: ends the job with what it gave, not the request
├── FetchFailed          --   an item's source could not be fetched: ends the item, not the request
│   ├── UrlRefused       --   no request is sent to this URL: malformed, or not of the public internet
│   ├── UploadMissing    --   nothing was put to the upload's URL
│   ├── S3Missing        --   no such bucket or key
│   └── S3Forbidden      --   the S3 server does not let us read there
│       └── BucketForbidden 403  the account has no grant there; ends the item where a worker finds it
└── SettingsError        --   a setting does not fit: refuse to start
"""


class ShieldError(Exception):
    """The root of everything that this system raises on purpose. The message says what to do next."""

    code = "internal_error"


class InvalidSubmission(ShieldError):
    """A submission that cannot become what was asked for; `pointer` is a JSON pointer to what is wrong."""

    code = "invalid_submission"

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class NotJsonLines(InvalidSubmission):
    """A manifest whose first line is no JSON object."""

    code = "not_jsonl"


class NotAZip(InvalidSubmission):
    """An archive that is no zip, is damaged or encrypted, or is packed in a way that is not read here."""

    code = "not_a_zip"


class UnsafeZip(InvalidSubmission):
    """An archive with a member whose name leads out of it, or that is no plain file."""

    code = "unsafe_zip"


class ZipBomb(InvalidSubmission):
    """An archive of more members, or of more unpacked bytes, than it may have."""

    code = "zip_bomb"


class UnsafeUrl(InvalidSubmission):
    """A webhook's URL that is malformed, is not https, or leads to an address that is not public."""

    code = "unsafe_url"


class WeakSecret(InvalidSubmission):
    """A webhook's secret that is too short, or is not written as one."""

    code = "weak_secret"


class TooManyEndpoints(InvalidSubmission):
    """The account has as many webhooks as it may have."""

    code = "too_many_webhooks"


class NotFound(ShieldError):
    """No such thing in this account. Another account's id reads the same as an unknown one."""

    code = "not_found"


class CaseTaken(ShieldError):
    """Somebody else has claimed the case."""

    code = "case_taken"


class ClaimLost(ShieldError):
    """The claim on the case ran out, was given back, or never was; nothing was changed."""

    code = "claim_lost"


class AlreadyDecided(ShieldError):
    """The case is decided; nothing was changed."""

    code = "already_decided"


class NothingToUndo(ShieldError):
    """Nothing was answered to the case, or somebody has gone on with it since."""

    code = "nothing_to_undo"


class JobRunning(ShieldError):
    """The job has not ended, and what was asked is only done to one that has."""

    code = "job_running"


class NothingToRetry(ShieldError):
    """No item of the job failed."""

    code = "nothing_to_retry"


class DraftChanged(ShieldError):
    """The draft of the policy is not the one that was looked at; nothing was published."""

    code = "draft_changed"


class NothingToExplain(ShieldError):
    """No face of the item has a score."""

    code = "nothing_to_explain"


class EndpointDisabled(ShieldError):
    """The webhook is disabled, and what was asked would send it something."""

    code = "webhook_disabled"


class IdempotencyKeyReused(ShieldError):
    """The idempotency key was sent before, with a request that asked for something else."""

    code = "idempotency_key_reused"


class Unauthorised(ShieldError):
    """No valid key or session."""

    code = "unauthorised"


class ScopeMissing(ShieldError):
    """The key is good, and may not do what was asked; or the person's role may not."""

    code = "scope_missing"


class AuditBroken(ShieldError):
    """An entry of the audit log does not follow from the one before it."""

    code = "audit_broken"


class StorageUnavailable(ShieldError):
    """The database or the blob store cannot take the work now; nothing was accepted."""

    code = "storage_unavailable"


class BacklogFull(ShieldError):
    """More items wait than the installation lets wait; nothing was accepted."""

    code = "backlog_full"


class RateLimited(ShieldError):
    """More requests than the rate limit lets through; in `seconds` there is room again."""

    code = "rate_limited"

    def __init__(self, detail: str, seconds: float) -> None:
        super().__init__(detail)
        self.seconds = seconds


class QuotaUsed(RateLimited):
    """The account has submitted as many images within a day as it may; nothing was accepted."""

    code = "quota_used"


class TooManyDecisions(RateLimited):
    """One person decided more cases within a minute than one may; nothing was decided."""

    code = "too_many_decisions"


class BlobMissing(ShieldError):
    """A stored object is not where its row says."""

    code = "blob_missing"


class SealBroken(ShieldError):
    """A stored secret does not open under the installation's secret key."""

    code = "seal_broken"


class SourceFailed(ShieldError):
    """A job's source cannot be read, or not to its end. What was expanded is scanned all the same."""

    code = "source_failed"


class FetchFailed(ShieldError):
    """An item's source could not be fetched."""

    code = "fetch_failed"


class UrlRefused(FetchFailed):
    """A URL that no request is sent to: malformed, no http(s), or not of the public internet."""


class UploadMissing(FetchFailed):
    """Nothing was put to the upload's URL, or it was purged."""

    code = "upload_missing"


class S3Missing(FetchFailed):
    """No such bucket or key."""

    code = "s3_missing"


class S3Forbidden(FetchFailed):
    """The S3 server does not let us read there."""

    code = "s3_forbidden"


class BucketForbidden(S3Forbidden):
    """The account has no grant there; `pointer` is a JSON pointer to the place in the request."""

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class UploadUrlInvalid(ShieldError):
    """The signature is not of this upload's URL."""

    code = "upload_url_invalid"


class UploadUrlExpired(ShieldError):
    """The upload's URL can no longer be used."""

    code = "upload_url_expired"


class SettingsError(ShieldError):
    """A setting does not fit."""

    code = "invalid_setting"
