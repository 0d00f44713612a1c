"""How long a join waits, for whom, and how much it keeps."""

from dataclasses import dataclass

from combiner.ahead import MOST_BYTES
from combiner.cascade import Cascade
from combiner.quorum import Quorum

# Rows that leave in one call: all that can.
NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """Limits of a join (`combiner.join`, whose rules these are). Durations in nanoseconds.

    Attributes:
        members: how many models.
        deadline_ns, stall_ns, catch_up_limit_ns, patient_until_ns: see rule 2.
        in_order, ahead_bytes: see rule 3.
        quorum: who need not be waited for; None waits for all.
        cascade: who is asked only where the others are uncertain (`combiner.escalating`); not
            together with a quorum.
        remembered: settled rows to keep at least.
        initial_rows: room at the start.
        columns: how many numbers an answer has.
        stamped: whether to keep when each answer was where.
    """

    members: int
    deadline_ns: int
    stall_ns: int
    catch_up_limit_ns: int
    in_order: bool = True
    ahead_bytes: int = MOST_BYTES
    quorum: Quorum | None = None
    patient_until_ns: int = 0
    remembered: int = 4096
    initial_rows: int = 4096
    columns: int = 1
    stamped: bool = False
    cascade: Cascade | None = None

    def __post_init__(self) -> None:
        assert self.members > 0
        assert 0 < self.deadline_ns <= self.catch_up_limit_ns
        assert self.stall_ns > 0
        assert self.quorum is None or self.cascade is None
