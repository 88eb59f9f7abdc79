"""Fragments of a data set: all of it, in order, none too long, none odd."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from archive.dicom.fragments import fragments


@settings(deadline=None)
@given(chunks=st.lists(st.binary(max_size=50)), half_length=st.integers(1, 20))
def test_fragments_are_the_data_set(chunks: list[bytes], half_length: int) -> None:
    found = [(bytes(fragment), is_last) for fragment, is_last in fragments(chunks, 2 * half_length)]

    data_set = b"".join(chunks)
    assert b"".join(fragment for fragment, _ in found) == data_set + b"\0" * (len(data_set) % 2)
    assert [is_last for _, is_last in found] == [False] * (len(found) - 1) + [True]
    assert all(len(fragment) <= 2 * half_length for fragment, _ in found)
    assert all(len(fragment) % 2 == 0 for fragment, _ in found)
    assert all(fragment for fragment, _ in found[:-1])


def test_empty_data_set_is_one_empty_fragment() -> None:
    assert [(bytes(fragment), is_last) for fragment, is_last in fragments([], 100)] == [(b"", True)]


def test_fragments_are_no_copies() -> None:
    chunk = bytearray(b"before")

    found = [fragment for fragment, _ in fragments([chunk], 4)]
    chunk[:] = b"behind"

    assert [bytes(fragment) for fragment in found] == [b"behi", b"nd"]
