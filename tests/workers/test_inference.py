"""The protocol's words: what a request says, and what of a response is believed."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workers.inference import Request, ResponseError, decode_scores, error_text, model_path

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MATRICES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 4)),
    elements=FINITE | st.just(np.nan),
)
ROWS = np.array([[1.0, np.nan], [0.25, -3.0]])


def request(layout: str = "matrix", **changes) -> Request:
    names = ("a", "b") if layout == "columns" else ("x",)
    return Request(names=names, layout=layout, **changes)


def test_a_request_is_as_the_protocol_has_it() -> None:
    body = request(output="p", parameters={"content_type": "np"}).encode(ROWS)
    assert json.loads(body) == {
        "parameters": {"content_type": "np"},
        "inputs": [
            {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1.0, None, 0.25, -3.0]}
        ],
        "outputs": [{"name": "p"}],
    }


def test_columns_are_a_tensor_for_each_feature() -> None:
    assert json.loads(request("columns", datatype="FP64").encode(ROWS)) == {
        "inputs": [
            {"name": "a", "shape": [2, 1], "datatype": "FP64", "data": [1.0, 0.25]},
            {"name": "b", "shape": [2, 1], "datatype": "FP64", "data": [None, -3.0]},
        ]
    }


@pytest.mark.parametrize(
    ("missing", "text"), [("null", b"null"), ("nan", b"NaN"), (-999.0, b"-999.0")]
)
def test_a_missing_value_is_said_as_the_server_wants_it(missing, text: bytes) -> None:
    assert b"[1.0," + text + b"," in request(missing=missing).encode(ROWS).replace(b" ", b"")


@given(MATRICES)
def test_every_number_arrives_as_it_is(matrix: np.ndarray) -> None:
    names = tuple(f"f{i}" for i in range(matrix.shape[1]))
    whole = json.loads(Request(names=("x",)).encode(matrix))["inputs"][0]
    parts = json.loads(Request(names=names, layout="columns").encode(matrix))["inputs"]
    sent = np.array(whole["data"], dtype=np.float64).reshape(whole["shape"])
    np.testing.assert_array_equal(sent, matrix)
    columns = [np.array(part["data"], dtype=np.float64) for part in parts]
    np.testing.assert_array_equal(np.column_stack(columns), matrix)


def tensor(name: str, shape: list[int], data: list, datatype: str = "FP32") -> dict:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


LABELS = tensor("label", [2], [0, 1], "INT64")
TEXTS = tensor("label", [2], ["no", "yes"], "BYTES")


def decode(outputs: list, output: str = "", **changes) -> list:
    body = json.dumps({"model_name": "m", "outputs": outputs, **changes}).encode()
    return decode_scores(body, 2, "1", output).tolist()


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [
        ([tensor("p", [2], [0.25, 0.75])], ""),
        ([tensor("p", [2, 1], [0.25, 0.75])], ""),
        ([tensor("p", [2, 2], [0.75, 0.25, 0.25, 0.75])], ""),
        ([tensor("p", [2, 2], [[0.75, 0.25], [0.25, 0.75]], "FP64")], ""),
        ([LABELS, tensor("p", [2, 2], [0.75, 0.25, 0.25, 0.75])], ""),
        ([TEXTS, tensor("p", [2], [0.25, 0.75])], ""),
        ([tensor("q", [2], [9, 9]), tensor("p", [2], [0.25, 0.75])], "p"),
    ],
)
def test_scores_are_found_in_all_forms(outputs: list, wanted: str) -> None:
    assert decode(outputs, wanted) == [0.25, 0.75]
    assert decode(outputs, wanted, model_version="1") == [0.25, 0.75]
    assert decode(outputs, wanted, model_version=None, id="7", parameters={}) == [0.25, 0.75]


def test_more_than_two_classes_keep_their_columns() -> None:
    assert decode([tensor("p", [2, 3], [1, 0, 0, 0, 0.5, 0.5])]) == [[1, 0, 0], [0, 0.5, 0.5]]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "null"])
def test_what_is_no_number_is_no_score_and_concerns_its_row_alone(word: str) -> None:
    body = json.dumps({"outputs": [tensor("p", [2], [0.5, 7])]}).replace("7]", f"{word}]")
    np.testing.assert_array_equal(decode_scores(body.encode(), 2, "1"), [0.5, np.nan])


@pytest.mark.parametrize(
    ("outputs", "wanted", "problem"),
    [
        ([], "", r"0 outputs can be the score \(none\)"),
        ([], "p", "no output 'p', only none"),
        ([LABELS], "", "output 'label' is INT64; expected floats"),
        ([TEXTS, LABELS], "", "0 outputs can be the score"),
        ([tensor("p", [2], [1, 2]), tensor("q", [2], [1, 2])], "", r"\(p, q\).*name it with"),
        ([tensor("p", [2], [1, 2])], "q", "no output 'q', only p"),
        ([tensor("p", [2], ["0.5", "0.5"])], "", "data of output 'p' are no numbers"),
        ([tensor("p", [2], [True, False])], "", "data of output 'p' are no numbers"),
        ([tensor("p", [2, 2], [[1, 2], [3]])], "", "data of output 'p' are no numbers"),
        ([tensor("p", [2, 2], [1, 2, 3])], "", r"3 numbers for shape \[2, 2\]"),
        ([tensor("p", [3], [1, 2, 3])], "", r"shape \[3\] for 2 rows"),
        ([tensor("p", [2, 1, 1], [1, 2])], "", r"shape \[2, 1, 1\] for 2 rows"),
        ([tensor("p", [], [1])], "", r"shape \[\] for 2 rows"),
    ],
)
def test_what_is_no_answer_is_told_apart(outputs: list, wanted: str, problem: str) -> None:
    with pytest.raises(ResponseError, match=problem):
        decode(outputs, wanted)


def test_another_version_is_no_answer() -> None:
    with pytest.raises(ResponseError, match="version '2' answered instead of '1'"):
        decode([tensor("p", [2], [0, 1])], model_version="2")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_rubbish_is_told_in_one_way(body: bytes) -> None:
    with pytest.raises(ResponseError):
        decode_scores(body, 2, "1")


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_rubbish(depth: int) -> None:
    for word in ("7", "NaN"):
        body = f'{{"outputs": [{"[" * depth}{word}{"]" * depth}]}}'
        with pytest.raises(ResponseError):
            decode_scores(body.encode(), 2, "1")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "no such\\n model"}', "no such model"),
        (b'{"detail": "no"}', '{"detail": "no"}'),
        (b"<html>\n <b>Bad Gateway", "<html> <b>Bad Gateway"),
        (b"\xff", "\ufffd"),
        (b"", ""),
        (b"x" * 999, "x" * 200),
    ],
)
def test_what_a_server_says_is_quoted_in_one_line(body: bytes, text: str) -> None:
    assert error_text(body) == text


def test_names_in_the_path_are_quoted() -> None:
    assert model_path("a/b c", "v1?") == "/v2/models/a%2Fb%20c/versions/v1%3F"
