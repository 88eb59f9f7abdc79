"""The stored study of the folder above, with an AE to send it to."""

from __future__ import annotations

import pytest

from tests import stored_study
from tests.integration.tasks.exporters.sending import Sending


@pytest.fixture
def sending(archive: stored_study.Archive) -> Sending:
    return Sending(archive)
