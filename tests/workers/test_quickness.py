"""Quick is who has shown it; one long call, and it has to be shown again, for longer."""

from workers.quickness import (
    FIRST_PROOF,
    FORGIVEN_AFTER,
    LONG_CALL_NS,
    LONGEST_PROOF,
    SMALL_ROWS,
    TYPICAL_CALL_NS,
    Quickness,
)

QUICK_NS = 1_000_000


def calls_until_shown(model: Quickness) -> int:
    count = 0
    while not model.shown:
        model.observe(10, QUICK_NS)
        count += 1
    return count


def test_nobody_is_quick_before_it_was_seen():
    model = Quickness()
    assert not model.shown
    assert calls_until_shown(model) == FIRST_PROOF


def test_each_long_call_doubles_what_must_be_shown():
    model, proofs = Quickness(), []
    for _ in range(12):
        proofs.append(calls_until_shown(model))
        model.observe(1, LONG_CALL_NS + 1)
        assert not model.shown
    assert proofs[:4] == [FIRST_PROOF, 2 * FIRST_PROOF, 4 * FIRST_PROOF, 8 * FIRST_PROOF]
    assert max(proofs) == LONGEST_PROOF


def test_the_proof_is_of_calls_in_a_row():
    model = Quickness()
    for _ in range(FIRST_PROOF - 1):
        model.observe(10, QUICK_NS)
    model.observe(10, LONG_CALL_NS + 1)
    model.observe(10, QUICK_NS)
    assert not model.shown


def test_who_waits_for_a_network_is_not_quick():
    model = Quickness()
    for _ in range(100):
        model.observe(10, 2 * TYPICAL_CALL_NS)
    assert not model.shown
    for _ in range(100):
        model.observe(10, QUICK_NS)
    assert model.shown
    # One call that takes its time is no habit.
    model.observe(10, LONG_CALL_NS)
    assert model.shown


def test_a_large_batch_may_take_its_time():
    model = Quickness()
    calls_until_shown(model)
    model.observe(SMALL_ROWS + 1, 10 * LONG_CALL_NS)
    assert model.shown


def test_who_has_been_quick_for_long_is_forgiven():
    model = Quickness()
    for _ in range(3):
        calls_until_shown(model)
        model.observe(1, LONG_CALL_NS + 1)
    for _ in range(FORGIVEN_AFTER * 8 * FIRST_PROOF):
        model.observe(10, QUICK_NS)
    model.observe(1, LONG_CALL_NS + 1)
    assert calls_until_shown(model) == 8 * FIRST_PROOF  # and not 16 times
