"""How long somebody is still waited for: in seconds that were waited, not in those that we took ourselves."""

from __future__ import annotations

from archive.dicom.peer import patience

#: What stands for steady: who sends less is as good as silent.
LEAST_BYTES_PER_S = 1024
#: A time without limit does not ask for more than this time would.
_STEADY_S = 60.0


class Patience:
    """What is left of a time; made anew for each thing that is waited for."""

    def __init__(self, what: str, within_s: float, *, least_bytes: int = 0) -> None:
        """Begin to wait.

        Args:
            what: is waited for.
            within_s: how long; 0 for any time.
            least_bytes: how many bytes begin the time anew; 0: none do, all has to come within it.
        """
        self.what = what
        self.within_s = patience(within_s)
        self.left_s = self.within_s
        self._least_bytes = least_bytes
        self._received = 0

    @classmethod
    def of_steady(cls, what: str, within_s: float) -> Patience:
        """Begin to wait for something of any length, of which each span of this time has to bring a part."""
        least_bytes = int(min(patience(within_s), _STEADY_S) * LEAST_BYTES_PER_S)
        return cls(what, within_s, least_bytes=max(least_bytes, 1))

    def waited(self, seconds: float, received: int) -> None:
        """Take note of a wait, and how many bytes it brought."""
        self.left_s -= seconds
        self._received += received
        if self._least_bytes and self._received >= self._least_bytes:
            self.left_s, self._received = self.within_s, 0

    def text(self, held: int, wanted: int) -> str:
        """Say what did not come, of so many bytes wanted next."""
        if self._least_bytes and self._received:
            return f"no {self.what} within {self.within_s:g} s, only {self._received} bytes"
        only = f", only {held} of the at least {wanted} bytes of a PDU" if held else ""
        return f"no {self.what} within {self.within_s:g} s{only}"
