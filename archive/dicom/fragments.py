"""Cut a message into the fragments that fit a peer's PDUs, without copying it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Buffer = bytes | bytearray | memoryview


def fragments(chunks: Iterable[Buffer], length: int) -> Iterator[tuple[memoryview, bool]]:
    """Yield the fragments of a data set with the word whether it is the last one.

    Each has an even length, dcmtk refuses odd ones: a deflated data set that has an odd one gets the zero byte
    behind it that files may lack. An empty data set is one empty fragment.

    Args:
        chunks: the data set in pieces of any length.
        length: of the longest fragment; even.

    Source: PS3.7 6.3.1, PS3.5 A.5 (padding of a deflated data set)
    """
    held = memoryview(b"")
    for piece in _pieces(chunks, length):
        if held:
            yield held, False
        held = piece
    yield held, True


def _pieces(chunks: Iterable[Buffer], length: int) -> Iterator[memoryview]:
    """Yield pieces that are not empty, and even."""
    odd = b""
    for chunk in chunks:
        view = memoryview(odd + bytes(chunk) if odd else chunk)
        even = len(view) & ~1
        odd = bytes(view[even:])
        for start in range(0, even, length):
            yield view[start : min(start + length, even)]
    if odd:
        yield memoryview(odd + b"\0")
