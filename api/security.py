"""Who may do what: bearer tokens, roles, and the rule for a machine on which nobody has a token."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from api.answers import Forbidden, Unauthorized
from archive import db
from archive.accounts import ApiToken, Role
from config.errors import SettingsError
from tasks.errors import ConflictError, InvalidError, NotFoundError
from tasks.store import By

#: Weakest first.
_RANKS = tuple(Role)

#: So that a token that leaked into a log or a repository is recognized for what it is.
_PREFIX = "arcfleet_"

#: Characters of a token that somebody else has made up.
_SHORTEST = 32

#: `last_used_at` is written at most once in this time.
_NOTED_EVERY = timedelta(minutes=1)

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request."""

    #: Name of the token, or of the account on the machine itself.
    name: str
    role: Role
    host: str

    def may(self, role: Role) -> bool:
        """Tell whether the caller's role includes this one."""
        return _RANKS.index(self.role) >= _RANKS.index(role)

    def must_be(self, role: Role) -> None:
        """See that the caller's role includes this one.

        Raises:
            Forbidden: it does not.
        """
        if not self.may(role):
            raise Forbidden(f"{self.name} has the role {self.role}, expected {role} or more")

    @property
    def by(self) -> By:
        """The caller as the author of a change."""
        return By(f"{self.name}@{self.host}")


@dataclass(frozen=True, slots=True)
class Visit:
    """What a request says of who makes it, whatever server took it."""

    #: Address that it came from.
    client: str
    #: `host:port` that it was meant for.
    host: str
    #: Of the page that it came from, as browsers say.
    origin: str | None = None
    #: Bearer token.
    token: str | None = None
    #: Name of the token that somebody logged in with before.
    login: str | None = None


def needs(role: Role) -> Callable[[Request], Caller]:
    """Return what identifies the caller of a route and refuses those with a lesser role."""

    def identified(request: Request) -> Caller:
        caller = identify(request)
        caller.must_be(role)
        return caller

    return identified


Reader = Annotated[Caller, Depends(needs(Role.READER))]
Submitter = Annotated[Caller, Depends(needs(Role.SUBMITTER))]
Operator = Annotated[Caller, Depends(needs(Role.OPERATOR))]


def identify(request: Request) -> Caller:
    """Return who makes the request. Raises as `admit` does."""
    account: Caller | None = request.app.state.account
    if account is not None:
        return account
    visit = Visit(
        client=request.client.host if request.client else "unknown",
        host=request.url.netloc,
        origin=request.headers.get("origin"),
        token=_token_of(request),
    )
    return admit(visit, beyond_loopback=request.app.state.beyond_loopback)


def admit(visit: Visit, *, beyond_loopback: bool) -> Caller:
    """Return who makes a request.

    Without a token the request is one of the operator `local` if this process listens on loopback only,
    no token was ever added, and the request comes from this machine and from no page of another site.

    Raises:
        Unauthorized: there is no token, or it is unknown, revoked or expired.
        Forbidden: a request without a token came through a name or a page of somebody else.
    """
    with db.transaction() as session:
        if visit.token is not None:
            return _account(session, ApiToken.sha256 == _digest(visit.token), visit.client)
        if visit.login is not None:
            return _account(session, ApiToken.name == visit.login, visit.client)
        if beyond_loopback or session.scalar(select(select(ApiToken.id).exists())):
            raise Unauthorized("expected a token: Authorization: Bearer TOKEN (see `arcfleet token add`)")
    _refuse_foreign_pages(visit)
    return Caller("local", Role.OPERATOR, visit.client)


def bearer(authorization: str) -> str | None:
    """Return the token of a header Authorization; None: there is no such header.

    Raises:
        Unauthorized: it holds something else.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if scheme:
        raise Unauthorized(f"Authorization: {scheme}: expected Bearer TOKEN")
    return None


def _token_of(request: Request) -> str | None:
    token = bearer(request.headers.get("authorization", ""))
    if token is not None:
        return token
    given = [value for name, value in request.query_params.multi_items() if name.lower() == "access_token"]
    return given[0] if given else None


def _account(session: Session, is_meant: ColumnElement[bool], host: str) -> Caller:
    row = session.scalars(select(ApiToken).where(is_meant, *_valid())).one_or_none()
    if row is None:
        raise Unauthorized("the token is unknown, revoked or expired")
    stale = or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < func.now() - _NOTED_EVERY)
    if row.last_used_at is None or datetime.now(UTC) - row.last_used_at > _NOTED_EVERY:
        session.execute(update(ApiToken).where(ApiToken.id == row.id, stale).values(last_used_at=func.now()))
    return Caller(row.name, Role(row.role), host)


def _refuse_foreign_pages(visit: Visit) -> None:
    # Without tokens, a page of another site in a browser of this machine must not steer us (CSRF, DNS rebinding).
    host = urlsplit(f"//{visit.host}").hostname or ""
    if not is_loopback(host):
        raise Forbidden(f"Host: {host}: without a token, expected localhost or an address of loopback")
    if not is_loopback(visit.client):
        raise Unauthorized(f"a request from {visit.client} needs a token (see `arcfleet token add`)")
    if visit.origin is not None and urlsplit(visit.origin).netloc != visit.host:
        raise Forbidden(f"Origin: {visit.origin}: without a token, expected none or http://{visit.host}")


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address means this machine alone."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES


def is_local(address: str) -> bool:
    """Tell whether `host:port` can be reached from this machine alone."""
    return is_loopback(address.rpartition(":")[0].strip("[]"))


def refuse_open_door(addresses: Sequence[str], what: str = "REST") -> None:
    """See that a token exists if one of the addresses can be reached from elsewhere.

    Args:
        addresses: what is listened on, as `host:port` with a host as it was configured or resolved.
        what: who would listen there.

    Raises:
        SettingsError: none exists.
    """
    outside = [address for address in addresses if not is_local(address)]
    if not outside:
        return
    with db.transaction() as session:
        if not session.scalar(select(select(ApiToken.id).where(*_valid()).exists())):
            raise SettingsError(
                f"{what} would listen on {outside[0]}, which others can reach, and nobody has a token: run "
                "`arcfleet token add NAME --role operator` first (with `arcfleet up --only-servers` beside it where "
                "the database is ours), or listen on 127.0.0.1"
            )


def add_token(
    name: str, role: Role, created_by: str, expires_at: datetime | None = None, given: str | None = None
) -> str:
    """Make a token and return it; it is shown this once.

    Args:
        name: who uses it.
        role: what it may do.
        created_by: who makes it.
        expires_at: None: never.
        given: the token itself, at least 32 printable characters; None: it is made up.

    Raises:
        InvalidError: the one that is given is too short.
        ConflictError: the name is taken, be it by a revoked token: the audit goes by names.
    """
    if given is not None and (len(given) < _SHORTEST or not given.isascii() or not given.isprintable()):
        raise InvalidError(f"the token that is given for {name}: expected at least {_SHORTEST} printable characters")
    token = given or _PREFIX + secrets.token_urlsafe(32)
    with db.transaction() as session:
        if session.scalar(select(select(ApiToken.id).where(ApiToken.name == name).exists())):
            raise ConflictError(f"Token {name}: the name is taken, expected a new one (see `arcfleet token list`)")
        session.add(
            ApiToken(name=name, role=role.value, sha256=_digest(token), created_by=created_by, expires_at=expires_at)
        )
    return token


def is_valid(token: str) -> bool:
    """Tell whether somebody has this token."""
    with db.transaction() as session:
        return bool(
            session.scalar(select(select(ApiToken.id).where(ApiToken.sha256 == _digest(token), *_valid()).exists()))
        )


def tokens() -> list[ApiToken]:
    """Return all tokens, by name; the tokens themselves are not known any more."""
    with db.transaction() as session:
        return list(session.scalars(select(ApiToken).order_by(ApiToken.name)))


def revoke_token(name: str) -> None:
    """Make a token worthless from the next request on.

    Raises:
        NotFoundError: there is none with this name.
        ConflictError: it was revoked before.
    """
    with db.transaction() as session:
        row = session.scalars(select(ApiToken).where(ApiToken.name == name).with_for_update()).one_or_none()
        if row is None:
            known = ", ".join(session.scalars(select(ApiToken.name).order_by(ApiToken.name))) or "none, there are no"
            raise NotFoundError(f"Token {name} does not exist, expected one of: {known}")
        if row.revoked_at is not None:
            raise ConflictError(f"Token {name} was revoked already, {row.revoked_at:%Y-%m-%d %H:%M} UTC")
        row.revoked_at = datetime.now(UTC)


def _valid() -> tuple[ColumnElement[bool], ...]:
    not_expired = or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > func.now())
    return ApiToken.revoked_at.is_(None), not_expired


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
