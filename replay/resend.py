"""Sends dead letters back to where they came from, each once, whatever happens on the way.

The records and what is done by them are one transaction: a process that is killed anywhere leaves
either both or neither. Progress is kept in a consumer group of its own (`replay.done`), and one
transactional id for an ensemble makes sure that there is one who sends: a second one puts the
first one out.
"""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from replay.done import MAX_TEXT, Done
from replay.letters import Letter, headers_again, letter_of, verdict_of
from streams.client import misconfigured, plain_errors, translated
from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.sink import producer_config
from streams.stretches import TIMEOUT_S, Place, StretchReader

# One transaction: few enough to be through in no time, enough that its cost is none.
BATCH_LETTERS = 200
_BATCH_BYTES = 8_000_000  # of keys and values
_TRANSACTION_TIMEOUT_S = 30.0
_QUEUE_FULL_WAIT_S = 0.05
# Whatever is sent was in its topic before, so only the broker's limit counts.
_LARGEST_BYTES = 1_000_000_000
SENT = "sent"
DONE = "done before"
FOREIGN = "no dead letter"


def group_of(settings: Settings) -> str:
    """The consumer group, and transactional id, of an ensemble's dead-letter replay."""
    return f"{settings.ensemble.name}.dead-letters"


class Desk:
    """The dead letters of an ensemble, and which of them were sent again; a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topics.dead_letters
        self._group = group_of(settings)
        self.reader = StretchReader(settings.kafka, self._group)
        self._done: dict[int, Done] = {}
        self._ends: dict[Place, tuple[int, int]] = {}

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    # -- what there is -----------------------------------------------------------------------

    def look(self) -> None:
        """Learn what there is and what is done.

        Raises:
            BrokerError: the broker does not answer, or lacks the topic.
        """
        places = self.reader.places([self._topic])
        self._ends = {place: self.reader.held(place) for place in places}
        try:
            found = self.reader.consumer.committed(
                [TopicPartition(*place) for place in places], TIMEOUT_S
            )
        except KafkaException as error:
            raise translated(error, f"progress of {self._group} is not known") from error
        for partition in found:
            if partition.error is not None:
                raise translated(partition.error, f"progress of {self._group} is not known")
            low = self._ends[(self._topic, partition.partition)][0]
            done = Done.read(max(0, partition.offset), partition.metadata)
            done.forget_below(low)
            self._done[partition.partition] = done

    @property
    def open(self) -> int:
        """Offsets that may hold letters which were not sent again."""
        return sum(
            end - max(start, self._done[partition].low)
            for (_, partition), (start, end) in self._ends.items()
        )

    def letters(
        self, *, open_only: bool = False, stop: threading.Event | None = None
    ) -> Iterator[tuple[int, Letter | None]]:
        """Letters up to where the topic ended at `look`, with the offset behind the one before.

        A record that is no dead letter is None. With `open_only` what lies below all that is open
        is not read.
        """
        stretches = {
            place: (max(start, self._done[place[1]].low) if open_only else start, end)
            for place, (start, end) in self._ends.items()
        }
        behind = {place: start for place, (start, _) in stretches.items()}
        for messages in self.reader.read(stretches, stop):
            for message in messages:
                place, offset = _where(message)
                yield behind[place], letter_of(message)
                behind[place] = offset + 1

    def is_done(self, letter: Letter) -> bool:
        """Whether a letter was sent again."""
        partition, offset = letter.place
        return offset in self._done[partition]

    def inputs(self) -> dict[str, int]:
        """The partitions of each input topic."""
        places = self.reader.places(self._settings.topics.inputs)
        return dict(Counter(topic for topic, _ in places))

    # -- sending -----------------------------------------------------------------------------

    def resend(
        self,
        wanted: Callable[[Letter], bool],
        max_attempts: int,
        *,
        tell: Callable[[str, Letter], None] = lambda _fate, _letter: None,
        dry_run: bool = False,
        stop: threading.Event | None = None,
    ) -> Counter[str]:
        """Send again what is wanted and was not sent before.

        Args:
            wanted: which letters.
            max_attempts: an event that was sent again so often is left.
            tell: told what becomes of each wanted letter, before it is sent.
            dry_run: send nothing, and remember nothing.
            stop: when set, what is under way is finished.

        Returns:
            How many were sent, and how many not, by why.

        Raises:
            BrokerError: the broker refuses or does not answer; what was not committed will be sent
                by the next run.
            FencedError: another replay of this ensemble has begun.
            ConfigurationError: too many letters in too many places were left out by the filters.
        """
        # First the producer: whatever a former one had begun ends here, and with it what is done.
        producer = None if dry_run else self._producer()
        self.look()
        inputs = self.inputs()
        fates: Counter[str] = Counter()
        batch: list[tuple[int, Letter]] = []
        for behind, letter in self.letters(open_only=True, stop=stop):
            if letter is None:
                fates[FOREIGN] += 1
                continue
            if not wanted(letter):
                continue
            fate = DONE if self.is_done(letter) else verdict_of(letter, inputs, max_attempts)
            fates[fate] += 1
            tell(fate, letter)
            if fate == SENT and producer is not None:
                batch.append((behind, letter))
                if len(batch) >= BATCH_LETTERS or _bytes(batch) >= _BATCH_BYTES:
                    self._transact(producer, batch)
                    batch = []
        if producer is not None and batch:
            self._transact(producer, batch)
        return fates

    def _producer(self) -> Producer:
        properties = dict(producer_config(self._settings.kafka))
        properties |= {"transactional.id": self._group, "message.max.bytes": _LARGEST_BYTES}
        try:
            producer = Producer(properties)
        except (KafkaException, ValueError, TypeError) as error:
            raise misconfigured(error) from error
        try:
            producer.init_transactions(_TRANSACTION_TIMEOUT_S)
        except KafkaException as error:
            raise translated(error, "cannot begin transactions") from error
        return producer

    def _transact(self, producer: Producer, batch: Sequence[tuple[int, Letter]]) -> None:
        """Send some letters and remember it, or neither."""
        positions = self._marked(batch)
        try:
            producer.begin_transaction()
            for _, letter in batch:
                _produce(producer, letter)
            producer.send_offsets_to_transaction(
                positions, self.reader.consumer.consumer_group_metadata(), TIMEOUT_S
            )
            with plain_errors():
                producer.commit_transaction(_TRANSACTION_TIMEOUT_S)
        except KafkaException as error:
            problem = translated(error, "not sent")
            with contextlib.suppress(KafkaException), plain_errors():
                producer.abort_transaction(TIMEOUT_S)
            raise problem from error

    def _marked(self, batch: Sequence[tuple[int, Letter]]) -> list[TopicPartition]:
        """Mark letters, and the gaps before them, as done; the offsets to commit."""
        for behind, letter in batch:
            partition, offset = letter.place
            self._done[partition].add(behind, offset + 1)
        positions = []
        for partition in sorted({letter.place[0] for _, letter in batch}):
            done = self._done[partition]
            if len(text := done.text()) > MAX_TEXT:
                raise ConfigurationError(
                    f"{self._topic}/{partition}",
                    "too many letters were left out between those sent again to remember which; "
                    "expected some of the older ones to be sent first",
                )
            positions.append(TopicPartition(self._topic, partition, done.low, text))
        return positions


def _produce(producer: Producer, letter: Letter) -> None:
    topic, partition = letter.source
    while True:
        try:
            producer.produce(
                topic,
                value=letter.value,
                key=letter.key,
                partition=partition,
                headers=list(headers_again(letter)),
            )
        except BufferError:
            producer.poll(_QUEUE_FULL_WAIT_S)
        else:
            return


def _where(message: Message) -> tuple[Place, int]:
    return (str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0)


def _bytes(batch: Sequence[tuple[int, Letter]]) -> int:
    return sum(len(letter.value or b"") + len(letter.key or b"") for _, letter in batch)
