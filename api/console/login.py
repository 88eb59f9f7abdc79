"""Logging in to the pages with a token, and out again."""

from __future__ import annotations

import os
import secrets
from functools import partial
from pathlib import Path

from flower.views import BaseHandler
from flower.views.auth import is_safe_redirect

from api import security
from api.answers import Unauthorized
from api.console.guard import LOGIN_COOKIE, LOGIN_DAYS, Guarded
from api.security import Visit

_KEY_FILE = "flower.key"
_KEY_BYTES = 48


def cookie_key(home: Path) -> str:
    """Return the key that cookies are signed with; made once for a home, so that a restart logs nobody out."""
    place = home / _KEY_FILE
    if not place.exists():
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = home / f"{_KEY_FILE}.{os.getpid()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(_KEY_BYTES))
        try:
            # Whole or not at all, and only the first of several processes.
            place.hardlink_to(fresh)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return place.read_text("ascii")


class Login(Guarded, BaseHandler):  # type: ignore[misc]
    """The form that takes a token."""

    async def prepare(self) -> None:
        """Let anybody in: this is the door."""

    async def get(self) -> None:
        """Show the form, unless there is no need for it."""
        try:
            await super().prepare()
        except Unauthorized:
            self._show(None)
        else:
            self.redirect(self._next())

    async def post(self) -> None:
        """Log in, or say why not."""
        visit = Visit(self.visit().client, self.request.host, token=self.get_body_argument("token", "").strip() or "-")
        admit = partial(security.admit, visit, beyond_loopback=True)
        try:
            self.caller = await self.work.run(admit)
        except Unauthorized as refused:
            self.set_status(refused.status)
            self._show(str(refused))
            return
        self.set_signed_cookie(
            LOGIN_COOKIE, self.caller.name, expires_days=LOGIN_DAYS,
            httponly=True, samesite="Lax", secure=self.is_encrypted,
        )  # fmt: skip
        self.redirect(self._next(), status=303)

    def _show(self, refused: str | None) -> None:
        self.render("archive/login.html", refused=refused, goal=self._next())

    def _next(self) -> str:
        goal = self.request.arguments.get("next", [b"/"])[-1].decode("utf-8", "replace")
        return goal if is_safe_redirect(goal) else "/"


class Logout(Guarded, BaseHandler):  # type: ignore[misc]
    """The end of a login."""

    async def prepare(self) -> None:
        """Let anybody out."""

    def get(self) -> None:
        """Forget the login."""
        self.clear_cookie(LOGIN_COOKIE)
        self.redirect("/login")
