"""python -m api: serve the API with gunicorn, one process of many threads, until SIGTERM or SIGINT."""

import sys
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger

from api.app import create_app, redis_queue
from api.connections import Worker
from shield.errors import SettingsError
from shield.logs import set_up
from shield.settings import Settings, settings

CONNECTIONS = 500  # at a time; each is a file descriptor


class Log(Logger):
    """gunicorn's events in the same form as all others."""

    def setup(self, cfg: Config) -> None:
        """Leave handlers and levels to the root logger."""
        super().setup(cfg)
        self.error_log.propagate = True

    def exception(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log an error with its traceback; a client that does not keep up is no error of ours."""
        if not isinstance(sys.exc_info()[1], TimeoutError):
            super().exception(msg, *args, **kwargs)


class Server(BaseApplication):
    """gunicorn, told what it needs from our settings instead of its own files and flags."""

    def __init__(self, found: Settings) -> None:
        self.found = found
        self.queue = redis_queue(found)  # refuse to start before any process is made
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn before it starts."""
        host = f"[{self.found.host}]" if ":" in self.found.host else self.found.host
        wanted: dict[str, Any] = {
            "bind": f"{host}:{self.found.port}",
            "workers": 1,
            "worker_class": Worker,
            "threads": self.found.api_threads,
            "worker_connections": CONNECTIONS + self.found.api_threads,
            "sendfile": False,  # it would pass by the least rate of a connection
            "graceful_timeout": 20,
            "keepalive": 5,
            "forwarded_allow_ips": "",  # api.app alone believes X-Forwarded-*, as SHIELD_PROXIES says
            "errorlog": None,
            "logger_class": Log,
            "control_socket_disable": True,
            "proc_name": "shield-api",
        }
        for name, setting in wanted.items():
            self.cfg.set(name, setting)

    def load(self) -> Any:
        """Called by gunicorn in the process that serves: connections and threads begin there."""
        return create_app(self.found, self.queue)


def main() -> int:
    """Serve until told to stop."""
    try:
        found = settings()
        set_up(found.log_format, found.log_level)
        server = Server(found)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
