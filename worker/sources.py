"""Sources: the bytes of leased items, from the blob store, from S3 or from the web, many at a time."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Protocol

from shield import buckets, egress, s3
from shield.blobs import Blobs, TooLarge
from shield.db import Database
from shield.dispatch import LeasedItem
from shield.errors import BlobMissing, BucketForbidden, FetchFailed, InvalidSubmission, StorageUnavailable
from shield.outcomes import Failed
from shield.settings import Settings

log = logging.getLogger(__name__)

Fetched = tuple[LeasedItem, bytes | Failed]

THREADS = 80  # no fewer than are asked for at a time, by the scan and by all that is fetched ahead of it


class Fetcher(Protocol):
    """What fetches: Sources, or a double where networks and disks are not what is measured."""

    def fetch_all(self, items: Sequence[LeasedItem], at_once: int) -> Iterator[Fetched]:
        """Each item with its answer, as they come. Raises StorageUnavailable."""
        ...


class Sources:
    """Fetches the images of leased items, within the settings' limits of size and time."""

    def __init__(self, database: Database, blobs: Blobs, config: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._config = config
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")

    def fetch_all(self, items: Sequence[LeasedItem], at_once: int) -> Iterator[Fetched]:
        """Each item with its bytes, or with why there are none, as they come; `at_once` are fetched at a time.

        Raises StorageUnavailable when our own stores are away: then nothing is known of the items.
        """
        waiting = iter(items)
        fetching: dict[Future[bytes | Failed], LeasedItem] = {}
        while True:
            for item in islice(waiting, at_once - len(fetching)):
                fetching[self._threads.submit(self._fetch, item)] = item
            if not fetching:
                return
            for done in wait(fetching, return_when=FIRST_COMPLETED).done:
                yield fetching.pop(done), done.result()

    def _fetch(self, item: LeasedItem) -> bytes | Failed:
        try:
            return self._read(item)
        except StorageUnavailable:
            raise
        except (BlobMissing, FetchFailed, TooLarge) as error:
            return Failed(item.id, error.code, str(error))
        except Exception as error:  # whatever it is, it must not harm the neighbours
            log.exception("item %s could not be fetched", item.id)
            detail = f"fetching failed with {type(error).__name__}; the worker's log says where"
            return Failed(item.id, FetchFailed.code, detail)

    def _read(self, item: LeasedItem) -> bytes:
        limit = self._config.max_image_bytes
        if item.blob is not None:
            return self._blobs.get(item.blob)
        if item.upload is not None:
            return self._blobs.get_upload(item.upload, limit)
        url = item.url or ""
        if buckets.is_s3(url):
            return self._read_s3(item.account_id, url, limit)
        return egress.fetch(
            url,
            limit_bytes=limit,
            timeout_seconds=self._config.fetch_timeout_seconds,
            allow_loopback=self._config.egress_allow_loopback,
        )

    def _read_s3(self, account_id: str, url: str, limit: int) -> bytes:
        """An object that the account may still read: a grant may have been taken back since the job was submitted."""
        try:
            place = buckets.parse_s3_url(url)
        except InvalidSubmission as error:
            raise FetchFailed(str(error)) from error
        with self._database.read() as session:
            if not buckets.allowed(session, account_id, *place):
                raise BucketForbidden(buckets.forbidden(place))
        try:
            return s3.read(s3.client(self._config), *place, limit)
        except StorageUnavailable as error:  # as with any server that an image is fetched from
            raise FetchFailed(str(error)) from error
