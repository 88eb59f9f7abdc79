"""The REST services of a device that another product, or another cluster of ours, runs: asking them something."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from api.answers import RequestError
from api.security import is_loopback
from archive import configuration
from config import settings
from tasks.errors import ConflictError

_CONNECT_S = 5.0
#: Of a look that changes nothing.
_LOOK_S = 20.0
#: A bulk call over a million tasks takes half a minute.
ANSWER_S = 300.0

_PRODUCT = "arcfleet"


class Unreachable(RequestError):
    """The device that is asked for cannot be reached."""

    status = HTTPStatus.BAD_GATEWAY


class Silent(RequestError):
    """The device that is asked for does not answer; what it did is not known."""

    status = HTTPStatus.GATEWAY_TIMEOUT


@dataclass(frozen=True, slots=True)
class ForeignNode:
    """Where the services of a foreign device are, and what is sent with each question."""

    device: str
    #: URL, with the context path.
    base: str
    headers: Mapping[str, str]

    def ask(
        self, method: str, path: str, parameters: Sequence[tuple[str, str]] = (), *, within_s: float = ANSWER_S
    ) -> httpx.Response:
        """Return the answer to a question, be it an error.

        Raises:
            Unreachable: nobody answers there.
            Silent: it does not answer in time.
        """
        # Without the query: nobody needs it to see what is wrong.
        where = f"Device: {self.device} at {self.base}{path}"
        try:
            with httpx.Client(
                timeout=httpx.Timeout(within_s, connect=_CONNECT_S),
                verify=_trusted(),
                trust_env=not is_loopback(httpx.URL(self.base).host),
            ) as client:
                url = httpx.URL(self.base + path, params=list(parameters))
                return client.request(method, url, headers=dict(self.headers))
        except httpx.ReadTimeout as error:
            effect = "" if method == "GET" else "; what it did is not known"
            raise Silent(f"{where} does not answer within {within_s:g} s{effect}") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(f"{where} cannot be reached: {error}") from error

    def see_that_it_is_ours(self, what: Sequence[str]) -> None:
        """See that arcfleet answers there.

        Args:
            what: parts of a call that others ignore, as `name=value`.

        Raises:
            ConflictError: it is not shown by its version service.
            Unreachable: nobody answers there.
            Silent: it does not answer in time.
        """
        status, said = self._look("/version")
        if status != HTTPStatus.OK or said.get("product") != _PRODUCT:
            raise ConflictError(
                f"{', '.join(what)}: only arcfleet knows this, others ignore it, and that Device: {self.device} is "
                f"run by arcfleet is not shown by {self.base}/version ({_described(status, said)})"
            )

    def zone(self, what: str) -> ZoneInfo:
        """Return on whose clock the node reads times.

        Args:
            what: why that matters, as `name=value`.

        Raises:
            ConflictError: it does not tell.
            Unreachable: nobody answers there.
            Silent: it does not answer in time.
        """
        status, said = self._look("/monitor/serverTimeZone")
        try:
            return ZoneInfo(str(said["timeZone"]))
        except (KeyError, ValueError, OSError):
            raise ConflictError(
                f"{what}: Device: {self.device} would read it on its own clock, whose time zone is not told by "
                f"{self.base}/monitor/serverTimeZone ({_described(status, said)})"
            ) from None

    def _look(self, path: str) -> tuple[int, Mapping[str, Any]]:
        answer = self.ask("GET", path, within_s=_LOOK_S)
        return answer.status_code, object_of(answer)


def object_of(answer: httpx.Response) -> Mapping[str, Any]:
    """Return the JSON object of an answer; empty: it has none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def refuse_own(devices: Sequence[str], foreign: str) -> None:
    """Refuse to give tasks of a foreign device to one of ours, which never looks into its table.

    Raises:
        ConflictError: one of the devices is ours.
    """
    ours = configuration.current().ours
    for name in devices:
        if name in ours:
            raise ConflictError(
                f"newDeviceName={name}: the tasks of Device: {foreign} are in another table, so that Device: {name} "
                "cannot run them; expected a device that is run together with it"
            )


def _described(status: int, said: Mapping[str, Any]) -> str:
    return f"HTTP status {status}" + (f", {json.dumps(said)[:200]}" if said else "")


def _trusted() -> ssl.SSLContext:
    """Return what certificates are checked by: ours (ARCFLEET_TLS_CA), else those of the system."""
    authority = settings.current().tls_ca
    return ssl.create_default_context(cafile=None if authority is None else str(authority))
