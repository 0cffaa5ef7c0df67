"""What a service says on standard error: lines for people or JSON for machines, and no secret in either."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from nuncius.streams.merged import Merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuncius.streams import Stream

_HIDDEN = "***"
_SHORTEST = 4  # what is shorter would be found in every other word
_SECRET_NAME = re.compile(r"(password|passphrase|secret|secret_key|api_key|key\.pem|token)$", re.IGNORECASE)
# Also what nobody has named as a secret: a login in a URL, and password=… in somebody else's message.
_LOGIN = re.compile(r"(?<=://)[^\s/@]+:[^\s@]+(?=@)")
_ASSIGNED = re.compile(r"""(?i)((?:password|secret|token)["']?(?:=|:\s*["'])["']?)[^\s"',;&)]+""")


class Redactor:
    """Takes secrets out of texts: those that it is told, those in the environment, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self.add(value for name, value in os.environ.items() if _SECRET_NAME.search(name))
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Know more secrets."""
        fresh = {
            form
            for secret in secrets
            if len(secret) >= _SHORTEST
            for form in (secret, quote(secret, safe=""))
        }
        # The longest first: one may be a part of another.
        self._secrets = sorted(fresh.union(self._secrets), key=len, reverse=True)

    def add_those_of(self, stream: Stream) -> None:
        """Know the secrets with which a stream logs in, wherever they were found."""
        source = stream._engine
        for engine in source._engines.values() if isinstance(source, Merged) else [source]:
            settings: dict[str, Any] = getattr(engine._transport, "_config", {})
            self.add(
                str(value)
                for name, value in settings.items()
                if _SECRET_NAME.search(name) and value is not None
            )

    def __call__(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return _ASSIGNED.sub(rf"\g<1>{_HIDDEN}", _LOGIN.sub(_HIDDEN, text))


@contextlib.contextmanager
def logging_to_stderr(form: Literal["text", "json"], redact: Redactor) -> Iterator[None]:
    """Have what nuncius and Python's warnings say go to standard error, within the ``with`` block.

    Parameters
    ----------
    form : {"text", "json"}
        ``text``: a line each, with the time where nobody looks on. ``json``: an object a line, with `time`, `level`,
        `logger` and `message`, and more where there is more.
    redact : Redactor
        Takes the secrets out.
    """
    handler = _ToStderr()
    handler.setFormatter(_Json(redact) if form == "json" else _Text(redact, stamped=not sys.stderr.isatty()))
    loggers = [logging.getLogger("nuncius"), logging.getLogger("py.warnings")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO if logger.level == logging.NOTSET else logger.level)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _ToStderr(logging.Handler):
    """Writes to what is standard error now: a status line puts its own in place of it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)  # noqa: T201
        except BrokenPipeError:  # whoever read it is gone; that is no reason to stop
            return
        except Exception:  # noqa: BLE001 - logging never stops the program, as in the standard library
            self.handleError(record)


class _Text(logging.Formatter):
    def __init__(self, redact: Redactor, *, stamped: bool) -> None:
        super().__init__()
        self._redact = redact
        self._stamped = stamped

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).rstrip()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        stamp = f"{_time(record)} " if self._stamped else ""
        return stamp + self._redact(text)


class _Json(logging.Formatter):
    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage().rstrip()),
        }
        if record.exc_info:
            found["traceback"] = self._redact(self.formatException(record.exc_info))
        facts: dict[str, Any] = getattr(record, "facts", {})
        found |= {
            name: self._redact(value) if isinstance(value, str) else value for name, value in facts.items()
        }
        return json.dumps(found, default=str)


def _time(record: logging.LogRecord) -> str:
    stamp = datetime.fromtimestamp(record.created, UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
