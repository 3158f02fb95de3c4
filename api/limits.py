"""Rate limits: how often an account may ask, and an address may try to sign in, over all API processes together.

Requests are counted in Redis, in a moving window: at no time are there more in the window's length than the limit says.
While Redis is away each process counts by itself, for a limit is no reason to refuse work. Answers tell where their
account stands by the fields of draft-ietf-httpapi-ratelimit-headers-10.
"""

import hashlib
import logging
import math
import time
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from flask import Flask, Response, current_app, g, request
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from shield import names
from shield.errors import RateLimited
from shield.settings import Settings

log = logging.getLogger(__name__)

SIGN_IN = parse("10 per minute")  # of one address, or of one /64 of IPv6: whoever has one such address has them all
SIGN_IN_NAME = parse("20 per minute")  # to one name, wherever from; more than one address may alone, to lock nobody out
ONCE = parse("1 per minute")
ANSWER_SECONDS = 0.5  # that Redis may take to answer
AWAY_SECONDS = 5.0  # that it is not asked again after it failed to


class Limits:
    """Counts requests by name and by who sends them."""

    def __init__(self, redis_url: str, rate: str) -> None:
        self.rate = parse(rate) if rate else None
        self.alone = MovingWindowRateLimiter(MemoryStorage())  # counts for this process
        self._together: MovingWindowRateLimiter | None = None
        self._errors: tuple[type[Exception], ...] = ()
        self._away_until = 0.0  # time.monotonic
        if redis_url:
            storage = _storage(redis_url)
            self._together = MovingWindowRateLimiter(storage)
            errors = storage.base_exceptions
            self._errors = errors if isinstance(errors, tuple) else (errors,)

    def count(self, rate: RateLimitItem, *who: str) -> tuple[bool, int, float]:
        """Count a request: whether it may go on, how many more may, and in how many seconds there is more room."""
        if self._together is not None and time.monotonic() >= self._away_until:
            try:
                return _count(self._together, rate, who)
            except self._errors as error:
                log.warning("requests are counted by each process for %g s: %s", AWAY_SECONDS, error)
                self._away_until = time.monotonic() + AWAY_SECONDS
        return _count(self.alone, rate, who)


def check_account(account_id: str) -> None:
    """Count a request of this account. Raises RateLimited."""
    limits = _limits()
    if limits.rate is not None:
        _check(limits, limits.rate, "account", account_id)


def check_sign_in(name: str) -> None:
    """Count a try to sign in by this name from the request's address. Raises RateLimited."""
    limits = _limits()
    _check(limits, SIGN_IN, "sign-in", network(32, 64))
    _check(limits, SIGN_IN_NAME, "sign-in name", hashlib.sha256(names.tidy(name).encode()).hexdigest())


def once_a_minute(*what: str) -> bool:
    """Whether this process does this for the first time within a minute."""
    return _limits().alone.hit(ONCE, *what)


def network(v4_bits: int, v6_bits: int) -> str:
    """The network that the request comes from: so many bits of its address."""
    told = request.remote_addr or ""
    if told.startswith("["):  # some proxies tell the port too: [2001:db8::1]:4711
        told = told[1:].partition("]")[0]
    elif told.count(":") == 1:  # 192.0.2.1:4711
        told = told.partition(":")[0]
    try:
        address = ip_address(told)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), v6_bits), strict=False))
    return str(IPv4Network((int(address), v4_bits), strict=False))


def install(app: Flask, settings: Settings) -> None:
    """Count by these settings, and tell with each answer where its account stands."""
    app.extensions["limits"] = Limits(settings.redis_url, settings.rate_limit)
    app.after_request(_add_fields)


def _limits() -> Limits:
    found: Limits = current_app.extensions["limits"]
    return found


def _check(limits: Limits, rate: RateLimitItem, name: str, who: str) -> None:
    allowed, left, seconds = limits.count(rate, name, who)
    g.rate_limit = (rate, left, seconds)
    if not allowed:
        many = f"more than {rate.amount} requests in {rate.get_expiry()} s"
        raise RateLimited(f"{many}: wait {math.ceil(seconds)} s", seconds)


def _add_fields(response: Response) -> Response:
    if "rate_limit" in g:
        rate, left, seconds = g.rate_limit
        response.headers["RateLimit-Policy"] = f'"default";q={rate.amount};w={rate.get_expiry()}'
        response.headers["RateLimit"] = f'"default";r={left};t={math.ceil(seconds)}'
    return response


def _count(limiter: MovingWindowRateLimiter, rate: RateLimitItem, who: tuple[str, ...]) -> tuple[bool, int, float]:
    allowed = limiter.hit(rate, *who)
    reset_at, left = limiter.get_window_stats(rate, *who)
    return allowed, left if allowed else 0, max(1.0, reset_at - time.time())


def _storage(redis_url: str) -> RedisStorage:
    scheme, _, rest = redis_url.partition("://")
    unix = scheme in ("unix", "valkey+unix", "redis+unix")
    url = f"redis+unix://{rest}" if unix else f"{scheme.replace('valkey', 'redis')}://{rest}"
    return RedisStorage(
        url, key_prefix="shield:limits", socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
    )
