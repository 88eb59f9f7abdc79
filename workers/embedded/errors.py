"""What can go wrong with the embedded servers, in one line that says what to do."""

from __future__ import annotations


class EmbeddedError(Exception):
    """A server of ours cannot be started, or a home cannot be used; the message says why and what to do."""
