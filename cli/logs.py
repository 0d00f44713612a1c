"""Logs of every process: readable on a terminal, JSON lines elsewhere, and never a secret.

`ENSEMBLE_LOG` sets the level (`debug`, `info`, `warning`, `error`); by default it is `info`.
All libraries log through the standard module, and so does this product.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

from streams.errors import ConfigurationError
from streams.settings import KafkaSettings, Settings

LEVEL_VARIABLE = "ENSEMBLE_LOG"
LEVELS = ("debug", "info", "warning", "error")
MASK = "***"

# `scheme://user:password@host`, wherever it comes from, and `password=…` as libraries write it.
_URL_PASSWORD = re.compile(r"(?<=://)(?P<user>[^\s/@:]*):(?P<password>[^\s/@]+)(?=@)")
_ASSIGNED = re.compile(r"(?i)\b((?:[\w.]*)(?:password|secret|token)\"?\s*[=:]\s*\"?)[^\s\",;&]+")
_NUMBERS = re.compile(r"\d+")
_SECRET_NAME = re.compile(r"(?i)password|secret|token|key\.pem|key\.string")
# Shorter values would mask half of every line.
_MIN_SECRET_CHARS = 4
# Loggers that say the same for as long as a broker is away, many times a second.
_REPETITIVE = ("streams.kafka", "streams.client", "aiokafka")
_REPEAT_AFTER_S = 10.0
# Chatty about what is normal, or about every step of their own start.
_QUIET = ("faust", "mode", "aiokafka", "asyncio", "kafka")


def secrets_of(settings: Settings) -> list[str]:
    """Every value of the configuration that must not be seen."""
    urls = _URL_PASSWORD.finditer(settings.cache.url.get_secret_value())
    return [url["password"] for url in urls] + list(_secret_properties(settings.kafka))


def _secret_properties(kafka: KafkaSettings) -> Iterable[str]:
    for table in (kafka.properties, kafka.consumer, kafka.producer):
        for name, value in table.items():
            if _SECRET_NAME.search(name):
                yield str(value)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without secrets.

    >>> masked("cannot connect to redis://app:pa55@cache:6379/0")
    'cannot connect to redis://app:***@cache:6379/0'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARS:
            text = text.replace(secret, MASK)
    text = _URL_PASSWORD.sub(rf"\g<user>:{MASK}", text)
    return _ASSIGNED.sub(rf"\1{MASK}", text)


def level_of(text: str) -> int:
    """The number of a level. Raises ConfigurationError."""
    if text.lower() not in LEVELS:
        raise ConfigurationError(
            f"environment: {LEVEL_VARIABLE}", f'got "{text}", expected one of {", ".join(LEVELS)}'
        )
    return logging.getLevelNamesMapping()[text.upper()]


class _OncePerWhile(logging.Filter):
    """Lets a text pass again only after some time; numbers do not make it another text."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_REPETITIVE):
            return True
        text = _NUMBERS.sub("", record.getMessage())
        if record.created < self._next_s.get(text, 0.0):
            return False
        self._next_s[text] = record.created + _REPEAT_AFTER_S
        return True


def configure_command() -> None:
    """For commands that do one thing: what went wrong is their last line, so logs stay silent.

    With a level in the environment they speak as the others do.
    """
    if LEVEL_VARIABLE in os.environ:
        configure("ensemble")
    else:
        logging.basicConfig(handlers=[logging.NullHandler()], force=True)


def configure(process: str, settings: Settings | None = None) -> None:
    """Send all logs of this process to standard error, each line under its name.

    Raises:
        ConfigurationError: the level in the environment is none.
    """
    import structlog

    level = level_of(os.environ.get(LEVEL_VARIABLE, "info"))
    secrets = secrets_of(settings) if settings is not None else []
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _method, entry: _named(entry, process),
    ]
    renderers: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if sys.stderr.isatty():
        renderers += [_prefixed, structlog.dev.ConsoleRenderer(pad_event_to=0)]
    else:
        renderers += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]

    class Masking(structlog.stdlib.ProcessorFormatter):
        """The last step, so that nothing passes it: arguments, traces, other people's texts."""

        def format(self, record: logging.LogRecord) -> str:
            return masked(super().format(record), secrets)

    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_OncePerWhile())
    handler.setFormatter(Masking(processors=renderers, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    if level > logging.DEBUG:
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def _named(entry: MutableMapping[str, Any], process: str) -> MutableMapping[str, Any]:
    entry["process"] = process
    record = entry.get("_record")
    if record is not None:
        entry["logger"] = record.name
    return entry


def _prefixed(
    _logger: Any, _method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """On a terminal the process's name stands before the text, and the logger's nowhere."""
    entry.pop("logger", None)
    entry["event"] = f"{entry.pop('process')}: {entry['event']}"
    return entry
