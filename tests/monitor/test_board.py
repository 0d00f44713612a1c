"""What is known of a model when several combiners watch it."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.board import EXPIRY_MS, SEVERITY, View, fresh, verdict, with_view
from streams.records import HealthRecord, ModelState

states = st.sampled_from(SEVERITY)
all_views = st.dictionaries(
    st.sampled_from("abcd"), st.builds(View, state=states, seen_ms=st.integers(0, 20_000))
)


def record(state: ModelState, combiner: str) -> HealthRecord:
    return HealthRecord("m", state, combiner, "", 1, 0, 0, 0, 1.0, "")


def test_the_worst_view_counts() -> None:
    views = with_view({}, record("HEALTHY", "0"), 0)
    views = with_view(views, record("DEGRADED", "1"), 10)
    assert verdict(views, 20) == "DEGRADED"
    views = with_view(views, record("HEALTHY", "1"), 30)
    assert verdict(views, 30) == "HEALTHY"


def test_the_last_word_of_a_dead_combiner_expires() -> None:
    views = with_view({}, record("FAILED", "0"), 0)
    views = with_view(views, record("HEALTHY", "1"), 1000)
    assert verdict(views, EXPIRY_MS - 1) == "FAILED"
    assert verdict(views, EXPIRY_MS) == "HEALTHY"
    assert verdict(views, EXPIRY_MS + 1000) == "UNKNOWN"


def test_expired_views_are_forgotten() -> None:
    views = with_view({}, record("FAILED", "0"), 0)
    assert list(with_view(views, record("HEALTHY", "1"), EXPIRY_MS)) == ["1"]


def test_without_views_nothing_is_known() -> None:
    assert verdict({}, 0) == "UNKNOWN"


@given(all_views, st.integers(0, 30_000))
def test_no_fresh_view_is_worse_than_the_verdict(views: dict[str, View], now_ms: int) -> None:
    found = verdict(views, now_ms)
    worst = [SEVERITY.index(view.state) for view in fresh(views, now_ms).values()]
    assert (found == "UNKNOWN") == (not worst)
    if found != "UNKNOWN":
        assert SEVERITY.index(found) == max(worst)


@given(all_views, states, st.integers(0, 30_000))
def test_the_order_of_combiners_does_not_matter(
    views: dict[str, View], state: ModelState, now_ms: int
) -> None:
    backwards = dict(reversed(list(views.items())))
    assert verdict(views, now_ms) == verdict(backwards, now_ms)
