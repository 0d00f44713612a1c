"""What is known of where each member is good: the content of `competence.msgpack`.

All of it comes from out-of-fold answers, so no member is judged on rows that it learned from.
"""

from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

COMPETENCE_NAME = "competence.msgpack"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Numbers(msgspec.Struct, frozen=True, array_like=True):
    """An array of float64: its shape, and its numbers as little-endian bytes, row by row."""

    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        if min(self.shape, default=0) < 0 or 8 * int(np.prod(self.shape)) != len(self.data):
            raise ValueError(f"{len(self.data)} bytes are no numbers of shape {self.shape}")

    @classmethod
    def of(cls, array: NDArray[np.generic]) -> Self:
        """The numbers of an array."""
        return cls(array.shape, array.astype("<f8").tobytes())

    @property
    def array(self) -> Floats:
        """float64, writeable."""
        return np.frombuffer(self.data, "<f8").astype(np.float64).reshape(self.shape)


class Competence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `competence.msgpack`; V validation rows, F features, M members, R regions.

    Attributes:
        members: the columns.
        rows: float64[V, F], features of the validation rows; NaN is missing.
        answers: float64[V, M, K], the members' raw out-of-fold answers to them.
        labels: float64[V]: 0 and 1, places of classes, or values.
        means: float64[F], of the features in training, which put them on common scales.
        scales: float64[F], their standard deviations.
        centres: float64[R, D], middles of the regions, in the space of `combiner.selection.space`.
        region_losses: float64[R, M], mean squared error in each region, of all training rows.
        products: float64[M, M], mean products of errors, of all training rows.
        disagreement: float64[M, M], share of training rows to which two members give different
            labels; for regression one less their correlation.
    """

    members: tuple[str, ...]
    rows: Numbers
    answers: Numbers
    labels: Numbers
    means: tuple[float, ...]
    scales: tuple[float, ...]
    centres: Numbers
    region_losses: Numbers
    products: Numbers
    disagreement: Numbers

    def __post_init__(self) -> None:
        size, features, count = len(self.members), len(self.means), self.rows.shape[0]
        regions = self.centres.shape[0]
        shapes = {
            "rows": (self.rows.shape, (count, features)),
            "answers": (self.answers.shape[:2], (count, size)),
            "labels": (self.labels.shape, (count,)),
            "scales": ((len(self.scales),), (features,)),
            "region_losses": (self.region_losses.shape, (regions, size)),
            "products": (self.products.shape, (size, size)),
            "disagreement": (self.disagreement.shape, (size, size)),
        }
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise ValueError(f"{name} of shape {found}; expected {expected}")

    def hits(self, answers: Floats) -> NDArray[np.bool_]:
        """bool[V, M]: who has the right label, by float64[V, M, K] answers of the rows.

        With one column the label is 1 from one half on, with several it is the largest.
        """
        one = answers.shape[2] == 1
        said = answers[:, :, 0] >= 0.5 if one else answers.argmax(axis=2)
        right: NDArray[np.bool_] = said == self.labels.array[:, None]
        return right

    def encode(self) -> bytes:
        """The bytes of the file: the same content gives the same bytes."""
        return msgspec.msgpack.encode(self, order="sorted")


def decode_competence(data: bytes) -> Competence:
    """The content of the file. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(data, type=Competence)
