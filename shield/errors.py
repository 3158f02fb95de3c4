"""What can go wrong, by name. Every error carries a stable `code` that clients may rely on.

ShieldError
├── InvalidSubmission    422  the body is well-formed but cannot become a job
├── NotFound             404  no such thing in this account
├── Unauthorised         401  no key, an unknown key, a revoked key, a spent link
├── StorageUnavailable   503  the database cannot take the work: try again
├── BlobMissing          500  a stored object is gone
├── FetchFailed          --   an item's source could not be fetched: ends the item, not the request
└── SettingsError        --   a setting does not fit: refuse to start
"""


class ShieldError(Exception):
    """The root of everything that this system raises on purpose. The message says what to do next."""

    code = "internal_error"


class InvalidSubmission(ShieldError):
    """A submission that cannot become a job; `pointer` is a JSON pointer to what is wrong."""

    code = "invalid_submission"

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class NotFound(ShieldError):
    """No such thing in this account. Another account's id reads the same as an unknown one."""

    code = "not_found"


class Unauthorised(ShieldError):
    """No valid key or session."""

    code = "unauthorised"


class StorageUnavailable(ShieldError):
    """The database cannot take the work now; nothing was accepted."""

    code = "storage_unavailable"


class BlobMissing(ShieldError):
    """A stored object is not where its row says."""

    code = "blob_missing"


class FetchFailed(ShieldError):
    """An item's source could not be fetched."""

    code = "fetch_failed"


class SettingsError(ShieldError):
    """A setting does not fit."""

    code = "invalid_setting"
