"""Who asks, and whether he may: in front of every handler, Flower's own and ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, ClassVar, cast
from urllib.parse import urlencode, urlsplit

import structlog
from tornado.web import HTTPError, RequestHandler

from api import answers, security
from api.answers import Verdict
from api.console.work import Work
from api.security import Caller, Visit
from archive.accounts import Role
from config import settings

if TYPE_CHECKING:
    from api.console.application import Console

_log = structlog.get_logger()

#: Cookie with the name of the token that somebody logged in with; signed.
LOGIN_COOKIE = "arcfleet_login"
#: Days after which one has to log in again.
LOGIN_DAYS = 1

LOGIN_PATH = "/login"

#: Of one's own pages, or typed by hand. Source: Fetch Metadata Request Headers, section 2.3.
_OWN_SITES = frozenset({"same-origin", "none"})

_LOOKING = MappingProxyType({"GET": Role.READER, "HEAD": Role.READER})


class Guarded(RequestHandler):
    """A handler that knows who asks. Put in front of a handler of Flower it takes the place of its login."""

    #: Least role by method; for any other it takes an operator.
    roles: ClassVar[Mapping[str, Role]] = _LOOKING

    caller: Caller

    @property
    def console(self) -> Console:
        """The application."""
        return cast("Console", self.application)

    @property
    def work(self) -> Work:
        """Where work that blocks is done."""
        return self.console.work

    async def prepare(self) -> None:
        """Find out who asks.

        Raises:
            Unauthorized: nobody that we know.
            Forbidden: one who may not.
            AwayError: the database, which knows, does not answer.
        """
        ask = partial(security.admit, self.visit(), beyond_loopback=self.console.beyond_loopback)
        self.caller = await self.work.run(ask)
        self.caller.must_be(self.roles.get(str(self.request.method), Role.OPERATOR))

    def visit(self) -> Visit:
        """Return what the request says of who makes it.

        Raises:
            Unauthorized: it has a header Authorization that is none of ours.
        """
        headers = self.request.headers
        login = self.get_signed_cookie(LOGIN_COOKIE, max_age_days=LOGIN_DAYS)
        return Visit(
            client=self._client(),
            host=self.request.host,
            origin=headers.get("Origin"),
            token=security.bearer(headers.get("Authorization", "")),
            login=login.decode() if login else None,
        )

    def get_current_user(self) -> str | None:
        """Return the name of who asks; None: not known (yet)."""
        caller: Caller | None = getattr(self, "caller", None)
        return caller.name if caller else None

    def check_xsrf_cookie(self) -> None:
        """Refuse what a page of another site sends in the name of somebody who is logged in.

        A request with a token of its own, or of a program that is no browser, rides on nobody's login.
        """
        headers = self.request.headers
        if headers.get("Authorization"):
            return
        site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
        foreign = site is not None and site not in _OWN_SITES
        if foreign or (origin is not None and urlsplit(origin).netloc != self.request.host):
            raise HTTPError(HTTPStatus.FORBIDDEN, "the request comes from a page of another site")
        if site or origin or headers.get("Cookie") or headers.get("Referer"):
            RequestHandler.check_xsrf_cookie(self)

    def set_default_headers(self) -> None:
        """Keep pages out of frames of others, and out of caches."""
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Leave to `write_error` what it will judge, and log what comes too late for it."""
        if isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)
        elif self._headers_written:
            _log.error("request broke off", path=self.request.path, exc_info=value)

    def write_error(self, status_code: int, **kwargs: object) -> None:
        """Answer an error by the same rules as REST: a page for who reads pages, else one line of text."""
        found = self._judged(status_code, kwargs.get("exc_info"))
        self.set_status(found.status)
        for name, value in found.headers.items():
            self.set_header(name, value)
        if not self._wants_page():
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(_in_one_line(found))
        elif found.status == HTTPStatus.UNAUTHORIZED and self.request.method == "GET":
            self.redirect(f"{LOGIN_PATH}?{urlencode({'next': self.request.uri or '/'})}")
        else:
            self.render("archive/error.html", status=found.status, message=_in_one_line(found))

    def _judged(self, status_code: int, exc_info: object) -> Verdict:
        error = exc_info[1] if isinstance(exc_info, tuple) else None
        if isinstance(error, Exception) and not isinstance(error, HTTPError):
            return answers.judge(error, f"{self.request.method} {self.request.path}", self.work.database)
        said = error.get_message() if isinstance(error, HTTPError) else None
        return Verdict(status_code, said or HTTPStatus(status_code).phrase)

    def _wants_page(self) -> bool:
        return "text/html" in self.request.headers.get("Accept", "") and not self.request.path.startswith("/api/")

    @property
    def is_encrypted(self) -> bool:
        """Whether the request came by TLS, be it to a reverse proxy that we trust."""
        trusted = str(self.request.remote_ip) in settings.current().trusted_proxies
        passed_on = self.request.headers.get("X-Forwarded-Proto") if trusted else None
        return "https" in (passed_on, self.request.protocol)

    def _client(self) -> str:
        """Return the address of who asks: a reverse proxy that we trust says whose request it passes on."""
        trusted = settings.current().trusted_proxies
        address = str(self.request.remote_ip)
        passed_on = self.request.headers.get("X-Forwarded-For", "").split(",")
        while address in trusted and passed_on and passed_on[-1].strip():
            address = passed_on.pop().strip()
        return address


def _in_one_line(found: Verdict) -> str:
    return f"{found.message}, {found.hint}" if found.hint else found.message
