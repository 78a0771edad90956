"""Structured logs: with DOODLE_LOG=json everything that would be told to a person is a JSON object a line on stderr.

Each has ``at`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, and what is known of ``run``, ``rank`` and
``step``; a run's progress also has its figures. It is a variable and not an option so that it reaches every
process: put it in a job's runtime_env (``env_vars``) and workers, whose lines Ray keeps in its log files, write it
too. Ray's own lines become JSON by RAY_LOGGING_CONFIG_ENCODING=JSON.
"""

import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

import orjson

VARIABLE = "DOODLE_LOG"
LOGGER = "doodle_dist"
_bound: dict[str, object] = {}


def wants_json(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether DOODLE_LOG=json. Raises ValueError for what is neither that nor text."""
    value = environ.get(VARIABLE) or "text"
    if value not in ("json", "text"):
        raise ValueError(f"{VARIABLE}={value!r}: should be json or text")
    return value == "json"


def bind(**fields: object) -> None:
    """What every later line of this process says of itself: ``run``, ``rank``, ``step``."""
    _bound.update(fields)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; ``extra={"fields": {...}}`` adds to it, and never hides what is its own."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        own = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            own["error"] = self.formatException(record.exc_info)
        fields: dict[str, object] = getattr(record, "fields", {})
        return orjson.dumps(fields | _bound | own, default=str).decode()


def use_json(stream: TextIO | None = None) -> None:
    """Make every logger of this process write JSON lines (to stderr). Called again, it changes nothing more."""
    if is_json():
        return
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    logging.getLogger(LOGGER).setLevel(logging.INFO)


def is_json() -> bool:
    """Whether ``use_json`` was called in this process."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def say(text: str) -> None:
    """A line of ours on stderr, for the person who started this; a JSON object where those are asked for."""
    if is_json():
        tell(text)
    else:
        print(text, file=sys.stderr, flush=True)


def tell(message: str, fields: Mapping[str, object] | None = None, level: int = logging.INFO) -> None:
    """A line of ours, with more fields."""
    logging.getLogger(LOGGER).log(level, message, extra={"fields": dict(fields or {})})
