"""Whether a process stood still for longer than it may, told by when it was seen to run."""

import math


class Standstill:
    """Remembers a standstill until there was time to hear what happened meanwhile.

    What others decided while a process stood still reaches it a while after it listens again, and
    it may be busy with something else before it does.

    Args:
        longest_s: a longer time in which nothing ran, in seconds, was a standstill.
        doubt_s: so many seconds after it began to listen again a process has heard everything.
        now_s: when it began to run.

    >>> standstill = Standstill(longest_s=6.0, doubt_s=1.5, now_s=0.0)
    >>> standstill.is_in_doubt(7.0)  # nothing ran meanwhile
    True
    >>> standstill.listen(20.0)
    >>> standstill.is_in_doubt(21.0), standstill.is_in_doubt(22.0)
    (True, False)
    """

    def __init__(self, longest_s: float, doubt_s: float, now_s: float) -> None:
        self._longest_s = longest_s
        self._doubt_s = doubt_s
        self._ran_s = now_s
        self._is_deaf = False  # has not listened since it stood still
        self._doubt_until_s = -math.inf

    def run(self, now_s: float) -> None:
        """It runs."""
        self._is_deaf = self._is_deaf or self._stood_still(now_s)
        self._ran_s = now_s

    def listen(self, now_s: float) -> None:
        """It runs, and listens to others from now on."""
        self.run(now_s)
        if self._is_deaf:
            self._is_deaf = False
            self._doubt_until_s = now_s + self._doubt_s

    def is_in_doubt(self, now_s: float) -> bool:
        """Whether it stood still, and what it hears now may be news of that time."""
        return self._is_deaf or self._stood_still(now_s) or now_s < self._doubt_until_s

    def _stood_still(self, now_s: float) -> bool:
        return now_s - self._ran_s > self._longest_s
