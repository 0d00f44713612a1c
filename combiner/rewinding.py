"""Going back to the committed offsets: what asks for it, and after how long a wait."""

from streams.errors import BrokerError


class RewindError(BrokerError):
    """Nothing since the last commit counts: read again from the committed offsets.

    `doubtful` if it may be that another process has this one's place: then find out first.
    """

    def __init__(self, problem: str, *, doubtful: bool = False) -> None:
        super().__init__(problem)
        self.doubtful = doubtful


def rewind_wait_s(in_a_row: int) -> float:
    """How long to wait before going back once more without having published anything.

    Most reasons are gone at once; a cause that stays must not keep the machine busy.

    >>> [rewind_wait_s(times) for times in (0, 1, 2, 3, 6, 100)]
    [0.0, 0.1, 0.2, 0.4, 3.2, 5.0]
    """
    if not in_a_row:
        return 0.0
    return min(0.1 * 2.0 ** min(in_a_row - 1, 30), 5.0)
