"""The content of `certainty.json`: there and back, and what is refused."""

import msgspec
import pytest

from registry.certainty import (
    Certainty,
    Conformal,
    Curve,
    IsotonicFit,
    PlattFit,
    Quantile,
    TemperatureFit,
    Threshold,
    decode_certainty,
)

WHOLE = Certainty(
    "stacking",
    ("a", "b"),
    {
        "11": IsotonicFit((Curve((0.1, 0.9), (0.2, 0.8)),), 0.001),
        "10": PlattFit((-1.1,), (0.3,)),
        "#1": TemperatureFit(0.7),
    },
    Conformal("aps", 0.9, {"11": Quantile(0.87, 0.25)}),
    Threshold("cost:5,120", 0.04, 3.25),
)


def test_what_is_written_is_read() -> None:
    assert decode_certainty(WHOLE.encode()) == WHOLE
    assert decode_certainty(Certainty("mean", ("a",)).encode()) == Certainty("mean", ("a",))
    assert WHOLE.encode() == decode_certainty(WHOLE.encode()).encode()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"#1"', '"#x"', "subset '#x' is none of 2 members"),
        ('"10"', '"100"', "subset '100' is none of 2 members"),
        ('"11": {\n    "ties"', '"01": {\n    "ties"', "no entry for all members"),
        ('"beta": 0.7', '"beta": 0', "beta 0.0; expected a number above 0"),
        ('"coverage": 0.9', '"coverage": 1', "coverage 1.0; expected it between 0 and 1"),
        ('"ties": 0.25', '"ties": 1.5', "ties 1.5; expected a share"),
        ('"method": "aps"', '"method": "best"', "Invalid enum value"),
        ("0.8\n", "0.1\n", "probabilities of a curve fall"),
        ("0.1,\n", "0.9,\n", "scores of a curve do not ascend"),
        ('"strategy"', '"strateg"', "unknown field `strateg`"),
    ],
)
def test_what_contradicts_itself_is_refused(old: str, new: str, message: str) -> None:
    text = WHOLE.encode().decode()
    assert old in text
    with pytest.raises(msgspec.ValidationError, match=message):
        decode_certainty(text.replace(old, new, 1).encode())
