"""Logs: one line of JSON or of text an event, to standard error. No secrets, no uploaded bytes."""

import json
import logging
import sys
from datetime import UTC, datetime


class _Line(logging.Formatter):
    """time level logger message, and the exception on further lines."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        line = f"{stamp} {record.levelname.lower():<7} {record.name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    """One JSON object an event."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event)


def set_up(form: str, level: str) -> None:
    """Send this process's logs to standard error; `form` is "text" or "json"."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_Json() if form == "json" else _Line())
    logging.basicConfig(level=level.upper(), handlers=[stream], force=True)
