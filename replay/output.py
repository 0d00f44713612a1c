"""Where the scores of a replay go: a file, a topic of its own, or nowhere; counted and hashed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from streams.errors import ConfigurationError, DataError
from streams.settings import Settings
from streams.sink import Sink

_FLUSH_TIMEOUT_S = 60.0


class ScoreOutput:
    """Takes scored records in the order in which they were decided.

    Args:
        settings: the configuration.
        file: a file of JSON lines, made anew.
        topic: a topic, which must be none of the configuration's.

    Raises:
        ConfigurationError: the topic has another role.
        DataError: the file cannot be written.
        BrokerError: the topic does not exist.
    """

    def __init__(self, settings: Settings, file: Path | None, topic: str | None) -> None:
        topics = settings.topics
        taken = [*topics.inputs, topics.predictions, topics.scored, topics.dead_letters]
        if topic in [*taken, topics.health, topics.control]:
            raise ConfigurationError(
                "--to-topic", f"`{topic}` is a topic of the configuration; expected another one"
            )
        self._hash = hashlib.sha256()
        self._topic = topic
        self._sink = None if topic is None else Sink(settings.kafka)
        self._partitions = 0
        if self._sink is not None and topic is not None:
            self._partitions = self._sink.partition_counts([topic])[topic]
        self._path = file
        self._file: BinaryIO | None = None
        try:
            self._file = None if file is None else file.open("wb")
        except OSError as error:
            raise DataError(f"{file}: cannot be written: {error.strerror}") from error

    def write(self, partition: int, records: Sequence[tuple[bytes | None, bytes]]) -> None:
        """Key and value of scored records of events of one partition."""
        if not records:
            return
        lines = b"".join(value + b"\n" for _, value in records)
        self._hash.update(lines)
        if self._file is not None:
            try:
                self._file.write(lines)
            except OSError as error:
                raise DataError(f"{self._path}: cannot be written: {error.strerror}") from error
        if self._sink is not None and self._topic is not None:
            self._sink.produce_batch(self._topic, partition % self._partitions, records)
            self._sink.poll()

    @property
    def sha256(self) -> str:
        """Of all lines so far, as they stand in the file."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Deliver everything. Raises BrokerError or DataError where that fails."""
        if self._sink is not None:
            self._sink.flush(_FLUSH_TIMEOUT_S)
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise DataError(f"{self._path}: cannot be written: {error.strerror}") from error
