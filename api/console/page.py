"""What our pages have in common: Flower's frame around them, one line that says what was done, live parts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import parse_qsl

from flower.views import BaseHandler

from api.console import look, rendering
from api.console.guard import Guarded
from archive.accounts import Role

#: Our pages, in the order of the menu: path and name.
PAGES = (("/archive/tasks", "Tasks"),)

#: Sent by our script: only the part of the page that changes is wanted.
_PART = "X-Archive-Part"

#: Cookie with what was done by the request before this one; signed, read once.
_SAID_COOKIE = "arcfleet_said"
_SAID_DAYS = 1 / 24

_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Said:
    """One line about what was done."""

    text: str
    #: Bootstrap's word for its colour: success, warning, danger.
    tone: str = "success"


class Page(Guarded, BaseHandler):  # type: ignore[misc]
    """A page of ours."""

    def show(self, name: str, **values: object) -> None:
        """Render the page, or the part of it that changes while one looks at it."""
        self.set_header("Content-Security-Policy", _POLICY)
        part = self.request.headers.get(_PART) is not None
        self.render(
            f"archive/{name}_live.html" if part else f"archive/{name}.html",
            look=look,
            static=rendering.static,
            pages=PAGES,
            path=self.request.path,
            said=None if part else self._said(),
            may_change=self.caller.may(Role.OPERATOR),
            may_cancel=self.caller.may(Role.SUBMITTER),
            **values,
        )

    def say(self, said: Said) -> None:
        """Have the next page say what was done."""
        text = json.dumps({"text": said.text, "tone": said.tone})
        self.set_signed_cookie(_SAID_COOKIE, text, expires_days=_SAID_DAYS, httponly=True, samesite="Lax")

    def items(self) -> list[tuple[str, str]]:
        """Return names and values of the query, or of the form that was sent, without those that are empty."""
        sent = self.request.query if self.request.method == "GET" else self.request.body.decode("utf-8", "replace")
        return [(name, value) for name, value in parse_qsl(sent) if name != "_xsrf" and value.strip()]

    def _said(self) -> Said | None:
        text = self.get_signed_cookie(_SAID_COOKIE, max_age_days=_SAID_DAYS)
        if text is None:
            return None
        self.clear_cookie(_SAID_COOKIE)
        return Said(**json.loads(text))
