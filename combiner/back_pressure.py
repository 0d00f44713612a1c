"""Reads no more than can be held: inputs that have too much waiting, answers that run ahead."""

from collections.abc import Sequence

from combiner.core import Combiner
from combiner.output import Place
from combiner.throttle import Throttle
from streams.source import Source

# Of a partition: answers held for events that were not read yet, 16 bytes each. Behind an outage a
# quick model may be far ahead of a slow one, whose answers stand behind its own in the same
# partition: to pause at less would hold back the very answers that events wait for.
_EARLY_CELLS = 4_000_000


class BackPressure:
    """Pauses and resumes partitions of a source as a core fills and empties.

    Args:
        core: what holds events and answers.
        source: where they come from.
        predictions: the topic of answers.
        max_pending: events of a partition, from the oldest one that waits on.
    """

    def __init__(self, core: Combiner, source: Source, predictions: str, max_pending: int) -> None:
        self._core = core
        self._source = source
        self._predictions = predictions
        self._waiting = Throttle(max_pending)
        self._early = Throttle(_EARLY_CELLS)

    def forget(self, places: Sequence[Place]) -> None:
        """These came: nobody has paused them."""
        self._waiting.forget(places)
        self._early.forget(places)

    def forget_all(self) -> None:
        """Everything is read anew, and nothing paused."""
        self._waiting.paused.clear()
        self._early.paused.clear()

    def balance(self, *, blocked: bool) -> None:
        """Pause what has too much waiting, or all inputs while nothing leaves; resume the others.

        Raises:
            BrokerError: the broker does not say where a resumed partition ends.
        """
        core = self._core
        waiting = {place: core.span(place) for place in core.places}
        early = {(self._predictions, place[1]): core.early(place[1]) for place in waiting}
        stop, go = self._waiting.judge(waiting, blocked=blocked)
        ahead, near = self._early.judge(early)
        if stop or ahead:
            self._source.pause(stop + ahead)
        if go or near:
            self._source.resume(go + near)
        for place in go:
            # What piled up in the meantime is backlog. To be asked behind `resume`: the client
            # begins to fetch at its next request, or else up to a second later.
            core.set_backlog(place, self._source.high_watermark(place))
