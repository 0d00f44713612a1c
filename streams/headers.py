"""Headers of events that go on to their scores: which names, and how much of them."""

from collections.abc import Iterable, Sequence

from streams.records import Header

# A score must fit into a record of any broker, whatever its event brought along.
MAX_PASSED_BYTES = 16_384


class HeaderFilter:
    """Picks headers by name; a name that ends in `*` stands for all that begin so.

    >>> HeaderFilter(["traceparent", "ce_*"])([("ce_id", b"1"), ("other", b"2")])
    [('ce_id', b'1')]
    """

    def __init__(self, names: Iterable[str]) -> None:
        wanted = list(names)
        self._names = frozenset(name for name in wanted if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in wanted if name.endswith("*"))

    def __bool__(self) -> bool:
        """Whether any header can pass."""
        return bool(self._names or self._prefixes)

    def __call__(self, headers: Sequence[Header]) -> list[Header]:
        """Those that pass, in their order; none of them if they are too large together."""
        kept = [
            header
            for header in headers
            if header[0] in self._names or header[0].startswith(self._prefixes)
        ]
        size = sum(len(name) + len(value or b"") for name, value in kept)
        return kept if size <= MAX_PASSED_BYTES else []


NO_HEADERS = HeaderFilter([])
