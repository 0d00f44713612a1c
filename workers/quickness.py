"""Whether a model is so quick that others may wait for its calls.

Nobody is taken at his word: a model is quick once so many small batches in a row took it no long
call, and as long as its calls take next to no time on average. That leaves out those that wait for
a network: their waits should pass side by side. One long call, and it has to show it again, each
time for twice as long; who has been quick for long is forgiven some of that.
"""

from streams.instants import NS_PER_MS

# What is small: so much is answered by a model of some microseconds a row within a millisecond or
# two, and a fetch at a few thousand events a second brings less.
SMALL_ROWS = 256
# Also the wait of those behind it before they are given to threads of their own. A busy machine
# makes the shortest call last some milliseconds.
LONG_CALL_NS = 20 * NS_PER_MS
# Of a call on average: several of them one after another stay far below a deadline, and a busy
# machine does not make everybody slow.
TYPICAL_CALL_NS = 5 * NS_PER_MS
# How much a call counts in the average.
_SHARE = 1 / 16
FIRST_PROOF = 16
LONGEST_PROOF = 4096
# Quick calls, in proofs, after which the next proof is half as long.
FORGIVEN_AFTER = 8


class Quickness:
    """What the calls of one model have shown.

    >>> model = Quickness()
    >>> for _ in range(FIRST_PROOF):
    ...     model.observe(100, 1_000_000)
    >>> model.shown
    True
    >>> model.observe(100, LONG_CALL_NS + 1)
    >>> model.shown
    False
    """

    def __init__(self) -> None:
        self._proof = FIRST_PROOF
        self._quick_calls = 0
        self._typical_ns = 0.0

    @property
    def shown(self) -> bool:
        """Whether it is quick, as far as anybody knows."""
        return self._quick_calls >= self._proof and self._typical_ns <= TYPICAL_CALL_NS

    def observe(self, rows: int, took_ns: int) -> None:
        """Learn from a batch of so many rows. A large one that took its time says nothing."""
        if rows <= SMALL_ROWS:
            counted_ns = min(took_ns, LONG_CALL_NS)  # a single one is judged by itself
            self._typical_ns += (counted_ns - self._typical_ns) * _SHARE
        if took_ns <= LONG_CALL_NS:
            self._quick_calls += 1
            if self._quick_calls >= FORGIVEN_AFTER * self._proof:
                self._proof = max(FIRST_PROOF, self._proof // 2)
                self._quick_calls = self._proof
        elif rows <= SMALL_ROWS:
            self._quick_calls = 0
            self._proof = min(2 * self._proof, LONGEST_PROOF)
