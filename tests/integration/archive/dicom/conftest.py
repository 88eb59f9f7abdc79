"""Our acceptor for one test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.accepting import Accepting, Keeping


@pytest.fixture
def accepting() -> Iterator[Accepting]:
    with Accepting() as found:
        yield found


@pytest.fixture
def keeping(accepting: Accepting) -> Keeping:
    assert isinstance(accepting.services, Keeping)
    return accepting.services
