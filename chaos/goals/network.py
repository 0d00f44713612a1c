"""What a network does: replies that are lost or late, and producers that must not be trusted."""

import struct
import threading
from dataclasses import dataclass, field

from chaos.goals.goal import Result, goal
from chaos.plan import Plan
from chaos.proxy import (
    ADD_OFFSETS_TO_TXN,
    ADD_PARTITIONS_TO_TXN,
    END_TXN,
    INIT_PRODUCER_ID,
    Toxics,
    Treatment,
)
from chaos.reader import wait_for
from chaos.stage import Stage

RATE_PER_S = 1000
SETTLED_MS = 200
PATIENCE_S = 120.0
# Longer than the combiner waits for a commit, and than the broker for a transaction.
LATE_MS = 12_000
LOST = (
    Treatment("swallow", times=1),
    Treatment("delay", ms=LATE_MS, times=1),
    Treatment("cut", times=1),
)

Epoch = tuple[int, int]  # a producer's id, and its epoch


@dataclass
class Transactions:
    """Which epochs began and ended transactions, read from the requests that pass a proxy."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    latest_end: Epoch = (-1, -1)
    given_up: set[Epoch] = field(default_factory=set)
    reused: list[Epoch] = field(default_factory=list)

    def on_request(self, api: int, _version: int, frame: bytes) -> None:
        """On the proxy's thread."""
        if api not in {ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN}:
            return
        epoch = _epoch(frame)
        with self.lock:
            if api == END_TXN:
                self.latest_end = epoch
            elif epoch in self.given_up:
                self.reused.append(epoch)

    def give_up(self) -> None:
        """Nobody will ever hear how the latest transaction ended."""
        with self.lock:
            self.given_up.add(self.latest_end)


def _epoch(frame: bytes) -> Epoch:
    """Producer id and epoch of a request that begins with a transactional id."""
    place = 8
    for _ in ("client id", "transactional id"):
        (length,) = struct.unpack_from(">h", frame, place)
        place += 2 + max(0, length)
    producer, epoch = struct.unpack_from(">qh", frame, place)
    return producer, epoch


@goal(
    "7",
    "the reply to a commit (EndTxn) is lost, 12 s late, or its connection is cut",
    "0 lost, 0 duplicates; a new producer whenever the answer did not come; never a second "
    "transaction under such an epoch",
    count=51,
)
def commits_without_an_answer(count: int) -> Result:
    """In turn; the next one when scores come again in time."""
    transactions = Transactions()
    unanswered, recreated = 0, 0
    with Stage(Plan(kafka_proxy=True)) as stage:
        stage.await_ready()
        proxy = stage.proxies[0]
        proxy.on_request = transactions.on_request
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            for number in range(count):
                treatment = LOST[number % len(LOST)]
                made, treated = proxy.seen[INIT_PRODUCER_ID], proxy.treated[END_TXN]
                proxy.set(Toxics(replies={END_TXN: treatment}))
                wait_for(lambda seen=treated: proxy.treated[END_TXN] > seen, lambda: "no commit")  # type: ignore[misc]
                # After a cut the client asks again, and is told how it ended.
                if treatment.kind != "cut":
                    transactions.give_up()
                stage.await_flow(SETTLED_MS, PATIENCE_S)
                if treatment.kind != "cut":
                    unanswered += 1
                    recreated += proxy.seen[INIT_PRODUCER_ID] > made
        report = stage.report()
        ended = [f"{name} {code}" for name, code in stage.ended]
    return Result.of(
        report,
        recreated == unanswered and not transactions.reused,
        f"ends: {', '.join(ended)}" if ended else "",
        unanswered=unanswered,
        new_producers=recreated,
        second_transactions=len(transactions.reused),
        gap_s=report.timing.gap_s,
        full_share=report.rungs["none"] / max(1, report.scored),
    )
