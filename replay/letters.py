"""A dead letter, read back: what came, where it came from, and what was wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from streams.records import Header, Headers

Place = tuple[str, int]  # topic, partition
Verdict = Literal["sent", "cut", "given up", "no input"]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes:
        place: partition and offset of the letter itself.
        written_ms: when it was written.
        source: topic and partition of the event.
        source_offset: its offset there.
        error: the kind of error.
        message: what was wrong.
        ensemble: who says so, `name@version`.
        attempts: how often the event had been sent again before this letter.
        cut_from: the length of the event's value, where the letter holds only a part of it.
        key: the event's.
        value: the event's.
        headers: the event's own.
    """

    place: tuple[int, int]
    written_ms: int
    source: Place
    source_offset: int
    error: str
    message: str
    ensemble: str
    attempts: int
    cut_from: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]

    @property
    def id(self) -> str:
        """`topic/partition/offset` of the event, as `source` in a scored record."""
        return f"{self.source[0]}/{self.source[1]}/{self.source_offset}"


def letter_of(message: Any) -> Letter | None:
    """A letter from a record; None for a record that is no dead letter of this product.

    Args:
        message: anything with the methods of a `confluent_kafka.Message`.
    """
    headers: Sequence[Header] = message.headers() or ()
    said = {name: value or b"" for name, value in headers if name.startswith(Headers.PREFIX)}
    partition, offset = (_number(said.get(name)) for name in (Headers.PARTITION, Headers.OFFSET))
    if partition is None or offset is None or Headers.TOPIC not in said:
        return None
    return Letter(
        (message.partition(), message.offset()),
        message.timestamp()[1],
        (_text(said[Headers.TOPIC]), partition),
        offset,
        _text(said.get(Headers.CLASS)),
        _text(said.get(Headers.MESSAGE)),
        _text(said.get(Headers.ENSEMBLE)),
        # A producer may write what it likes there; what is no number was never counted.
        _number(said.get(Headers.ATTEMPTS)) or 0,
        _number(said.get(Headers.ORIGINAL_BYTES)),
        message.key(),
        message.value(),
        # The event's own come first; names of ours are ours wherever they stand.
        [header for header in headers if not header[0].startswith(Headers.PREFIX)],
    )


def verdict_of(letter: Letter, partitions: dict[str, int], max_attempts: int) -> Verdict:
    """What becomes of a letter that is to be sent again.

    Args:
        letter: the letter.
        partitions: input topics of the ensemble → how many partitions they have.
        max_attempts: an event that was sent again so often is given up.
    """
    if letter.cut_from is not None:
        return "cut"
    if letter.attempts >= max_attempts:
        return "given up"
    if letter.source[1] >= partitions.get(letter.source[0], 0):
        return "no input"
    return "sent"


def headers_again(letter: Letter) -> list[Header]:
    """The event's own headers, and behind them how often it was sent again, this time included."""
    return [*letter.headers, (Headers.ATTEMPTS, str(letter.attempts + 1).encode())]


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "backslashreplace")


def _number(value: bytes | None) -> int | None:
    """A number that is not negative; None for anything else."""
    text = _text(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
