"""Who waits for whom: catching up waits for all, a model that is too slow is left behind."""

import pytest

from workers.pressure import PATIENCE_NS, Load, Pressure

LIMIT = 1000
STEP_NS = PATIENCE_NS // 20


class Play:
    """A process whose models work at given speeds, over an input with its own speed.

    One step is a tenth of a second; it fetches what it may, and time passes.
    """

    def __init__(self, inflow: int, speeds: list[int], backlog: int = 0) -> None:
        self.inflow, self.speeds, self.lag = inflow, speeds, backlog
        self.rows = [0] * len(speeds)
        self.refused = [0] * len(speeds)
        self.done = [0] * len(speeds)
        self.pressure = Pressure(LIMIT)
        self.now_ns = 0

    def step(self, fetch: int = 500, stuck: frozenset[int] = frozenset()) -> None:
        self.now_ns += STEP_NS
        self.lag += self.inflow
        loads = self.loads(stuck)
        if self.pressure.is_due(loads, self.now_ns):
            self.pressure.judge(loads, self.lag, self.now_ns)
        while self.lag and not self.pressure.blocks(self.loads(stuck)):
            count = min(fetch, self.lag)
            self.lag -= count
            for model, load in enumerate(self.loads(stuck)):
                if self.pressure.sheds(model, load):
                    self.refused[model] += count
                else:
                    self.rows[model] += count
        for model, speed in enumerate(self.speeds):
            did = 0 if model in stuck else min(speed, self.rows[model])
            self.rows[model] -= did
            self.done[model] += did

    def loads(self, stuck: frozenset[int]) -> list[Load]:
        return [Load(rows, model in stuck) for model, rows in enumerate(self.rows)]


def test_a_backlog_waits_for_the_slowest_model_that_gains() -> None:
    play = Play(inflow=100, speeds=[5000, 200], backlog=50_000)
    for _ in range(1000):
        play.step()
    assert play.refused == [0, 0]
    assert play.lag == 0


def test_a_model_that_is_too_slow_is_left_behind_and_the_others_are_in_time() -> None:
    play = Play(inflow=200, speeds=[5000, 100])
    for _ in range(200):
        play.step()
    assert play.lag == 0, "nobody waits for it"
    before = list(play.done)
    for _ in range(100):
        play.step()
        assert play.lag == 0
        assert play.rows[0] == 0
    assert play.done[0] - before[0] == 100 * 200
    assert play.refused[0] == 0
    assert play.refused[1] > 0
    assert play.done[1] - before[1] == 100 * 100, "it does what it can"


def test_the_others_wait_for_a_slow_model_no_longer_than_twice_the_patience() -> None:
    play = Play(inflow=200, speeds=[5000, 100])
    blocked = 0
    for _ in range(300):
        play.step()
        blocked += play.lag > 0
    assert blocked * STEP_NS <= 2 * PATIENCE_NS


def test_a_model_that_recovers_is_waited_for_again() -> None:
    play = Play(inflow=200, speeds=[5000, 100])
    for _ in range(200):
        play.step()
    play.speeds[1] = 5000
    for _ in range(10):
        play.step()
    refused = play.refused[1]
    play.lag += 20_000
    for _ in range(50):
        play.step()
    assert play.refused[1] == refused


@pytest.mark.parametrize("speed", [0, 100])
def test_a_model_in_a_long_call_holds_nobody_up(speed: int) -> None:
    play = Play(inflow=200, speeds=[5000, speed])
    for _ in range(50):
        play.step(stuck=frozenset({1}))
        assert play.lag == 0
    assert play.refused[1] == 50 * 200 - play.rows[1]


def test_without_anything_to_read_nobody_is_left_behind() -> None:
    pressure = Pressure(LIMIT)
    loads = [Load(LIMIT + 500, stuck=False)]
    for turn in range(10):
        now_ns = turn * PATIENCE_NS
        assert pressure.is_due(loads, now_ns)
        assert pressure.judge(loads, 0, now_ns) == []
