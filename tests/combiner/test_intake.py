"""Which frames count, and which of their answers."""

import numpy as np
import pytest

from combiner.answers import Cells
from combiner.intake import Member, merged, problem_of, within
from streams.frames import PredictionFrame, decode_frames

BINARY = Member("a", "", 0.0, 1.0, reserve=False)
CLASSES = Member("a", "", 0.0, 1.0, reserve=False, columns=3)
AMOUNT = Member("a", "", None, None, reserve=False)
GOOD = [0.2, 0.3, 0.5]


def frame(scores: object) -> PredictionFrame:
    found = np.array(scores, dtype=np.float64)
    return PredictionFrame("a", "1", "events", 0, np.arange(len(found)), found)


@pytest.mark.parametrize(
    ("member", "scores", "problem"),
    [
        (BINARY, [0.5], ""),
        (BINARY, [[0.5]], "several columns"),
        (BINARY, [GOOD], "several columns"),
        (CLASSES, [GOOD], ""),
        (CLASSES, [0.5], "other columns"),
        (CLASSES, [[0.5, 0.5]], "other columns"),
        (AMOUNT, [1e9], ""),
    ],
)
def test_a_frame_has_as_many_columns_as_there_are_classes(
    member: Member, scores: object, problem: str
) -> None:
    assert problem_of(frame(scores), 0, member) == problem


def test_of_classes_all_of_a_row_counts_or_nothing() -> None:
    rows = [GOOD, [0.2, np.nan, 0.8], [-0.5, 1.0, 0.5], [0.1, 0.1, 0.1], [np.inf, 0.0, 0.0]]
    cells = within(CLASSES, Cells(np.arange(5), np.array(rows), 7, {1: "no"}))
    assert cells.scores[0].tolist() == GOOD
    assert np.isnan(cells.scores[1:]).all()
    assert cells.reasons == {
        1: "no",
        2: "-0.5 outside [0.0, 1.0]",
        3: "adds up to 0.3 instead of 1",
        4: "inf outside [0.0, 1.0]",
    }


def test_good_rows_of_classes_are_passed_on_as_they_are() -> None:
    cells = Cells(np.arange(2), np.array([GOOD, [0.999, 0.0, 0.0]]), 7)
    assert within(CLASSES, cells) is cells


def test_an_amount_has_no_limits() -> None:
    cells = Cells(np.arange(3), np.array([-1e12, 1e12, np.inf]), 7)
    assert within(AMOUNT, cells).scores[:2].tolist() == [-1e12, 1e12]
    assert within(AMOUNT, cells).reasons == {2: "inf outside [None, None]"}


def test_frames_of_classes_are_merged_and_may_refuse_in_json() -> None:
    text = (
        b'{"model":"a","topic":"t","partition":0,"offsets":[5,6],'
        b'"scores":[[0.2,0.3,0.5],null],"refusals":{"1":"too old"}}'
    )
    (decoded,) = decode_frames(text)
    assert decoded.scores.shape == (2, 3)
    assert np.isnan(decoded.scores[1]).all()
    cells = merged([(1, decoded), (2, frame([GOOD]))])
    assert cells.scores.shape == (3, 3)
    assert cells.reasons == {1: "too old"}
