"""What becomes of a request whose answers nobody wants any more: C-CANCEL, and a moment for the peer to end it."""

from __future__ import annotations

import time

from archive.dicom import commands, wire

#: How long a peer may take to end what was canceled, before the association is aborted.
_CANCEL_S = 3.0


class Canceling:
    """Asks the peer to cancel a request when whoever waits has enough, and then waits no longer than a moment."""

    def __init__(self, connection: wire.Wire, context_id: int, message_id: int) -> None:
        self._wire = connection
        self._context_id = context_id
        self._message_id = message_id
        self._until_s = 0.0
        #: Who waited before.
        self.waiting = connection.waiting
        #: Why it was canceled; None: it was not.
        self.stop: BaseException | None = None

    def look(self) -> None:
        """Go on waiting, or not."""
        if self.stop is not None:
            if time.monotonic() >= self._until_s:
                raise self.stop
            return
        try:
            self.waiting()
        except BaseException as stop:  # noqa: BLE001  # raised when the peer has ended, or has had its moment
            self.stop = stop
            self._until_s = time.monotonic() + _CANCEL_S
            self._wire.send_message(self._context_id, commands.cancel_request(self._message_id))
