"""Watermarks of a partition whose leader has just changed."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams import offsets as offsets_module
from streams.errors import BrokerError
from streams.offsets import watermarks

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
    "code", [KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION]
)
def test_a_leader_that_does_not_know_yet_is_asked_again(ask: Any, code: int) -> None:
    assert ask(refusal(code), refusal(code), (3, 7)) == (3, 7)
    with pytest.raises(BrokerError, match="no watermark of events/0: not now"):
        ask(refusal(code))


def test_any_other_refusal_holds(ask: Any) -> None:
    with pytest.raises(BrokerError, match="no watermark of events/0: not now"):
        ask(refusal(KafkaError.TOPIC_AUTHORIZATION_FAILED), (3, 7))


def test_no_answer_is_an_error(ask: Any) -> None:
    with pytest.raises(BrokerError, match=r"no watermark of events/0 in 0\.05 s"):
        ask(None)
