"""The tables of who may do what: accounts, their keys, their moderators, and the log of what was done."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shield.models.base import HASH, ID, Base, one_of
from shield.states import Role


class Account(Base):
    """An API customer."""

    __tablename__ = "account"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime]
    events: Mapped[int] = mapped_column(BigInteger, default=0)  # that it has had: the sequence of the last one


class ApiKey(Base):
    """A key, by the hash of its secret part; the key itself is shown once and kept nowhere."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    hint: Mapped[str] = mapped_column(String(8), default="")  # its last characters, by which people tell keys apart
    scopes: Mapped[list[str]] = mapped_column(JSON)
    secret_sha256: Mapped[str] = mapped_column(HASH, unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]  # last, to the minute
    revoked_at: Mapped[datetime | None]


class LoginLink(Base):
    """A one-time link that opens a browser session."""

    __tablename__ = "login_link"

    token_sha256: Mapped[str] = mapped_column(HASH, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Moderator(Base):
    """A person of an account, who signs in with a password."""

    __tablename__ = "moderator"
    __table_args__ = (CheckConstraint(one_of("role", Role), "role"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str] = mapped_column(String(200))  # argon2id, with its salt and parameters
    blur: Mapped[bool] = mapped_column(default=True)  # photos of cases are shown blurred
    greyscale: Mapped[bool] = mapped_column(default=True)  # and without colour
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class BrowserSession(Base):
    """Somebody who is signed in at a browser: a moderator, or whoever opened a link. The row is deleted at its end."""

    __tablename__ = "browser_session"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    moderator_id: Mapped[str | None] = mapped_column(ForeignKey("moderator.id"))
    token_sha256: Mapped[str] = mapped_column(HASH, unique=True)  # of what the browser's cookie holds
    opened_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class AuditEntry(Base):
    """Something that was done, in words that never change: the database refuses to change or delete a row.

    `hash` is over the entry and the hash of the one before it (shield.audit).
    """

    __tablename__ = "audit_entry"
    __table_args__ = (Index("ix_audit_entry_account_id_number", "account_id", "number"),)

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # from 1, without a gap
    at: Mapped[datetime]
    account_id: Mapped[str | None] = mapped_column(ID)  # no foreign key: the log outlives what it names
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)  # JSON, exactly as it was hashed
    hash: Mapped[str] = mapped_column(HASH)
