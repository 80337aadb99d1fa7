"""The hub's log: one JSON object a line on stderr, its own and its libraries'.

Rules: an event is a fixed word with named values; no value is what a record says. An exception is told by its type,
its code and where it was raised, never by its text, which may quote what somebody wrote or a database's row.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from sync_protocol.errors import HealthSyncError

MAX_PLACES: Final = 12  # of a traceback, the innermost
_LIBRARIES: Final = ("uvicorn", "uvicorn.error", "alembic", "apscheduler", "sqlalchemy")


def configure(level: str) -> None:
    """Once a process, before anything is logged. level: debug, info, warning or error."""
    number = logging.getLevelName(level.upper())
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_texts,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    written = logging.StreamHandler(sys.stderr)
    written.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [written]
    root.setLevel(number)
    for name in _LIBRARIES:
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def without_texts(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by its type, its code and where it was raised."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if given is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        if isinstance(error, HealthSyncError):
            event["code"] = error.code
        frames = traceback.extract_tb(error.__traceback__)[-MAX_PLACES:]
        event["places"] = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        record.exc_info = None  # or the formatter would print it, text and all
        record.exc_text = None
    return event
