"""Dead letters that their topic is too small for, cut to a size that any topic takes."""

from collections.abc import Sequence

from combiner.window import BadRecord
from streams.records import Header, Headers


def cut_to(
    bad: BadRecord, limit: int
) -> tuple[bytes | None, bytes | None, Sequence[Header], list[Header]]:
    """Key, value and headers of an event in `limit` bytes, and headers that say what was cut.

    Each may have a third of the room; headers that need more are left out altogether.
    """
    share = limit // 3
    key, value = (part and part[:share] for part in (bad.key, bad.value))
    size = sum(len(name) + len(text or b"") for name, text in bad.headers)
    headers = bad.headers if size <= share else ()
    return key, value, headers, [(Headers.ORIGINAL_BYTES, str(len(bad.value or b"")).encode())]
