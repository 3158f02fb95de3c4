"""A house that delivers, and a customer who receives: what tests of webhooks in a worker stand on."""

from sqlalchemy import func, select

from benchmarks.receiver import Receiver
from shield import accounts, endpoints, events
from shield.models import Attempt, Delivery, Endpoint
from shield.secret import Seal, secret_key
from shield.settings import Settings
from shield.states import EventType
from tests.worker.conftest import House, wait_until
from tests.worker.stub import StubScanner
from worker.deliver import Deliverer

ALL = [kind for kind in EventType if kind != EventType.ENDPOINT_TEST]


class Post:
    """A house that delivers, and a customer who receives."""

    def __init__(self, house: House, receiver: Receiver) -> None:
        self.house, self.receiver, self.database = house, receiver, house.database
        self.config: Settings = house.config.model_copy(
            update={"webhook_retry_seconds": [0.0, 0.0], "webhook_poll_seconds": 0.05, "webhook_timeout_seconds": 5.0}
        )
        self.seal = Seal(secret_key(self.config))
        self.deliverer = Deliverer(self.database, self.config)

    def endpoint(self, *kinds: EventType, account_id: str = "", url: str = "") -> tuple[str, str]:
        """The id and the secret of a new endpoint."""
        owner = account_id or self.house.account_id
        with self.database.write() as session:
            made, secret = endpoints.create(session, owner, self.seal, url or self.receiver.url, kinds or ALL)
        return made.id, secret

    def account(self, name: str) -> str:
        with self.database.write() as session:
            return accounts.create_account(session, name).id

    def tell(self, *endpoint_ids: str, times: int = 1) -> None:
        """Owe each of these endpoints so many events."""
        with self.database.write() as session:
            for endpoint in session.scalars(select(Endpoint).where(Endpoint.id.in_(endpoint_ids))):
                for _ in range(times):
                    events.test(session, endpoint)

    def end_a_job(self, *images: bytes) -> str:
        job = self.house.submit(*(images or (b"none",)))
        scanning = self.house.scanning(StubScanner())
        while scanning.scan_ready():
            pass
        assert self.house.ended(job)
        return job.id

    def deliver(self, endpoint_id: str | None = None) -> None:
        """Until nothing is owed any more, or nothing to this endpoint."""
        owed = select(func.count()).where(Delivery.ended_at.is_(None))
        if endpoint_id is not None:
            owed = owed.where(Delivery.endpoint_id == endpoint_id)

        def settled() -> bool:
            self.deliverer.turn()
            with self.database.read() as session:
                return not session.scalar(owed)

        wait_until(settled)

    def states(self) -> list[str]:
        with self.database.read() as session:
            return list(session.scalars(select(Delivery.state).order_by(Delivery.id)))

    def attempts(self) -> list[Attempt]:
        with self.database.read() as session:
            return list(session.scalars(select(Attempt).order_by(Attempt.delivery_id, Attempt.number)))

    def get(self, endpoint_id: str) -> Endpoint:
        with self.database.read() as session:
            return endpoints.get(session, self.house.account_id, endpoint_id)
