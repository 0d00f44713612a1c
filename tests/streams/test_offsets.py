"""What a broker that has just come back, or a client that has lost it, answers at last."""

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams import offsets as offsets_module
from streams.errors import BrokerError, EnsembleError
from streams.offsets import committed, watermarks

PLACE = ("events", 0)


class Changing:
    """A consumer whose broker answers with these, one after the other, and then with the last."""

    def __init__(self, *answers: KafkaException | tuple[int, int] | None) -> None:
        self.answers = list(answers)

    def get_watermark_offsets(self, _place: object, _timeout_s: float) -> tuple[int, int] | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, KafkaException):
            raise answer
        return answer


def refusal(code: int) -> KafkaException:
    return KafkaException(KafkaError(code, "not now"))


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(offsets_module, "REQUEST_TIMEOUT_S", 0.05)
    monkeypatch.setattr(offsets_module, "_ASK_AGAIN_S", 0.01)
    return lambda *answers: watermarks(Changing(*answers), PLACE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._DESTROY_BROKER,
    ],
)
def test_who_does_not_know_yet_is_asked_again(ask: Any, code: int) -> None:
    assert ask(refusal(code), refusal(code), (3, 7)) == (3, 7)
    with pytest.raises(BrokerError, match="no watermark of events/0: not now"):
        ask(refusal(code))


def test_any_other_refusal_holds(ask: Any) -> None:
    with pytest.raises(BrokerError, match="no watermark of events/0: not now"):
        ask(refusal(KafkaError.TOPIC_AUTHORIZATION_FAILED), (3, 7))


def test_no_answer_is_an_error(ask: Any) -> None:
    with pytest.raises(BrokerError, match=r"no watermark of events/0: no answer"):
        ask(None)


def test_a_client_without_brokers_can_be_told_of_them_between_two_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offsets_module, "_ASK_AGAIN_S", 0.01)
    consumer = Changing(refusal(KafkaError._ALL_BROKERS_DOWN))

    def tell() -> None:
        consumer.answers = [(3, 7)]

    assert watermarks(consumer, PLACE, tell) == (3, 7)  # type: ignore[arg-type]


class Committing:
    """A consumer whose group answers with these errors, one after the other, and then with 5."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)

    def committed(self, places: list[TopicPartition], _timeout_s: float) -> list[TopicPartition]:
        if not self.codes:
            return [TopicPartition(place.topic, place.partition, 5) for place in places]
        if (code := self.codes.pop(0)) == KafkaError._TIMED_OUT:
            raise refusal(code)
        return [SimpleNamespace(error=KafkaError(code))]  # type: ignore[list-item]


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._TIMED_OUT,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    ],
)
def test_a_group_that_does_not_say_yet_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(offsets_module, "_ASK_AGAIN_S", 0.01)
    asked: list[None] = []
    consumer = Committing(code, code)
    found = committed(consumer, [PLACE], lambda: asked.append(None))  # type: ignore[arg-type]
    assert ([each.offset for each in found], len(asked)) == ([5], 2)


def test_a_group_that_refuses_is_not_asked_again() -> None:
    with pytest.raises(EnsembleError, match="cannot read the committed offsets"):
        committed(Committing(KafkaError.GROUP_AUTHORIZATION_FAILED), [PLACE])  # type: ignore[arg-type]
