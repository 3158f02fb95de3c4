"""The installation's secret key, and what is sealed with a key that is derived from it."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shield.errors import SealBroken
from shield.settings import Settings

NONCE = 12  # bytes, drawn anew for each sealing


def secret_key(settings: Settings) -> str:
    """The secret key: the setting's, else that of the file HOME/secret, which is made when missing."""
    given = settings.secret_key.get_secret_value()
    if given:
        return given
    path = settings.home / "secret"
    if not path.exists():
        _make_secret(path)
    return path.read_text().strip()


def _make_secret(path: Path) -> None:
    """Write a new secret for the owner alone; it appears whole, and one that is already there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix="secret-")  # mode 0600
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_urlsafe(48))
    with contextlib.suppress(FileExistsError):  # another process was first
        path.hardlink_to(name)
    Path(name).unlink()


class Seal:
    """Encrypts what rests in the database: AES-256-GCM under a key that HKDF derives from the secret key.

    What is sealed is bound to its owner's id, so that it opens in no other row.
    """

    def __init__(self, key: str) -> None:
        derived = HKDF(SHA256(), length=32, salt=None, info=b"shield webhook secrets").derive(key.encode())
        self._cipher = AESGCM(derived)

    def close(self, content: str, owner: str) -> bytes:
        """This text, sealed."""
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, content.encode(), owner.encode())

    def open(self, sealed: bytes, owner: str) -> str:
        """The text. Raises SealBroken when it was sealed under another key, or for another owner."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], owner.encode()).decode()
        except (InvalidTag, ValueError) as error:  # the latter where it is too short to hold anything
            detail = "the signing secret cannot be opened: the installation's secret key has changed"
            raise SealBroken(f"{detail}. Rotate the secret of this webhook") from error
