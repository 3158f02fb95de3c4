"""Sources: the bytes of leased items, from the blob store or from the web, many at a time."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from shield import egress
from shield.blobs import Blobs
from shield.dispatch import Failed, LeasedItem
from shield.errors import BlobMissing, FetchFailed
from shield.settings import Settings

log = logging.getLogger(__name__)

FETCHES = 16  # at a time: they wait for disks and for other people's servers


class Sources:
    """Fetches the images of leased items, within the settings' limits of size and time."""

    def __init__(self, blobs: Blobs, config: Settings) -> None:
        self._blobs = blobs
        self._config = config
        self._threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch")

    def fetch_all(self, items: Sequence[LeasedItem]) -> Iterator[bytes | Failed]:
        """One answer for each item, in order: its bytes, or why there are none."""
        return self._threads.map(self._fetch, items)

    def _fetch(self, item: LeasedItem) -> bytes | Failed:
        try:
            if item.blob is not None:
                return self._blobs.get(item.blob)
            return egress.fetch(
                item.url or "",
                limit_bytes=self._config.max_image_bytes,
                timeout_seconds=self._config.fetch_timeout_seconds,
                allow_loopback=self._config.egress_allow_loopback,
            )
        except (BlobMissing, FetchFailed) as error:
            return Failed(item.id, error.code, str(error))
        except Exception as error:  # whatever it is, it must not harm the neighbours
            log.exception("item %s could not be fetched", item.id)
            detail = f"fetching failed with {type(error).__name__}; the worker's log says where"
            return Failed(item.id, FetchFailed.code, detail)
