"""Under which key a value is stored.

    se1:latest:<ensemble name>:<entity>                the latest score of an entity
    se1:prediction:<model>:<version>:<16 raw bytes>    a model's answer to a feature row

`se1` names the product and the version of this layout *and* of the values' encodings: whoever
changes either raises the number, and old values become misses instead of nonsense.

Names come from outside and may hold anything, so they are escaped and, when long, hashed: two
different places never share a key, and no key is longer than `MAX_KEY_BYTES`.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NAMESPACE = b"se1"
# Readable in `redis-cli` for all common ids (UUIDs, e-mail addresses, URNs); the key is copied
# into every request, so beyond this a hash is cheaper and as good.
MAX_PART_BYTES = 128
DIGEST_BYTES = 16
# Namespace, kind, three parts at most, separators.
MAX_KEY_BYTES = 320


def latest(ensemble_name: str, entity: str) -> bytes:
    """Key of an entity's latest score; the same for all versions of the ensemble.

    >>> latest("credit", "customer 17")
    b'se1:latest:credit:customer 17'
    """
    return b":".join((NAMESPACE, b"latest", _part(ensemble_name), _part(entity)))


def latest_keys(ensemble_name: str, entities: Sequence[str]) -> list[bytes]:
    """`latest` of many entities."""
    prefix = latest(ensemble_name, "")
    return [prefix + _part(entity) for entity in entities]


def prediction(model_name: str, model_version: str, feature_row: NDArray[np.float64]) -> bytes:
    """Key of one model's answer to one row, float64[F]."""
    return prediction_keys(model_name, model_version, feature_row.reshape(1, -1))[0]


def prediction_keys(
    model_name: str, model_version: str, matrix: NDArray[np.float64]
) -> list[bytes]:
    """Keys of one model's answers to the rows of float64[N, F]; equal rows have equal keys.

    Rows are compared by value: every NaN is the same missing value, and -0.0 is 0.0. The
    matrix is not written to.
    """
    assert matrix.ndim == 2, matrix.shape
    prefix = b":".join((NAMESPACE, b"prediction", _part(model_name), _part(model_version), b""))
    canonical = matrix.astype("<f8") + 0.0
    canonical[np.isnan(canonical)] = np.nan
    rows, columns = matrix.shape
    width = columns * canonical.itemsize
    content = canonical.tobytes()
    return [
        prefix
        + hashlib.blake2b(
            content[at * width : at * width + width], digest_size=DIGEST_BYTES
        ).digest()
        for at in range(rows)
    ]


def unique_rows(keys: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each distinct key is first seen, int64[U], and which of those each key is, int64[N].

    >>> first_index, inverse = unique_rows([b"a", b"b", b"a"])
    >>> first_index.tolist(), inverse.tolist()
    ([0, 1], [0, 1, 0])
    """
    numbers: dict[bytes, int] = {}
    inverse = np.fromiter(
        (numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(keys)
    )
    return np.unique(inverse, return_index=True)[1].astype(np.int64), inverse


def _part(text: str) -> bytes:
    """A part without colons; a `%#` in front, which no escape produces, marks a hash."""
    raw = text.encode("utf-8", "surrogatepass")
    escaped = raw.replace(b"%", b"%25").replace(b":", b"%3A")
    if len(escaped) <= MAX_PART_BYTES:
        return escaped
    return b"%#" + hashlib.blake2b(raw, digest_size=DIGEST_BYTES).hexdigest().encode()
