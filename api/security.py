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

    @property
    def by(self) -> By:
        """The caller as the author of a change."""
        return By(f"{self.name}@{self.host}")


def needs(role: Role) -> Callable[[Request], Caller]:
    """Return what identifies the caller of a route and refuses those with a lesser role."""

    def identified(request: Request) -> Caller:
        caller = identify(request)
        if not caller.may(role):
            raise Forbidden(f"{caller.name} has the role {caller.role}, expected {role} or more")
        return caller

    return identified


Reader = Annotated[Caller, Depends(needs(Role.READER))]
Submitter = Annotated[Caller, Depends(needs(Role.SUBMITTER))]
Operator = Annotated[Caller, Depends(needs(Role.OPERATOR))]


def identify(request: Request) -> Caller:
    """Return who makes the request.

    Without a token the request is one of the operator `local` if this process listens on loopback only,
    no token was ever added, and the request comes from this machine and from no page of another site.

    Raises:
        Unauthorized: there is no token, or it is unknown, revoked or expired.
        Forbidden: a request without a token came through a name or a page of somebody else.
    """
    account: Caller | None = request.app.state.account
    if account is not None:
        return account
    token = _token_of(request)
    host = request.client.host if request.client else "unknown"
    with db.transaction() as session:
        if token is not None:
            return _bearer(session, token, host)
        if request.app.state.beyond_loopback or session.scalar(select(select(ApiToken.id).exists())):
            raise Unauthorized("expected a token: Authorization: Bearer TOKEN (see `arcfleet token add`)")
    _refuse_foreign_pages(request)
    return Caller("local", Role.OPERATOR, host)


def _token_of(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if scheme:
        raise Unauthorized(f"Authorization: {scheme}: expected Bearer TOKEN")
    given = [value for name, value in request.query_params.multi_items() if name.lower() == "access_token"]
    return given[0] if given else None


def _bearer(session: Session, token: str, host: str) -> Caller:
    row = session.scalars(select(ApiToken).where(ApiToken.sha256 == _digest(token), *_valid())).one_or_none()
    if row is None:
        raise Unauthorized("the token is unknown, revoked or expired")
    stale = or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < func.now() - _NOTED_EVERY)
    if row.last_used_at is None or datetime.now(UTC) - row.last_used_at > _NOTED_EVERY:
        session.execute(update(ApiToken).where(ApiToken.id == row.id, stale).values(last_used_at=func.now()))
    return Caller(row.name, Role(row.role), host)


def _refuse_foreign_pages(request: Request) -> None:
    # Without tokens, a page of another site in a browser of this machine must not steer us (CSRF, DNS rebinding).
    host = request.url.hostname or ""
    if not is_loopback(host):
        raise Forbidden(f"Host: {host}: without a token, expected localhost or an address of loopback")
    client = request.client.host if request.client else ""
    if not is_loopback(client):
        raise Unauthorized(f"a request from {client} needs a token (see `arcfleet token add`)")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.url.netloc:
        raise Forbidden(f"Origin: {origin}: without a token, expected none or http://{request.url.netloc}")


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address means this machine alone."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES


def is_local(address: str) -> bool:
    """Tell whether `host:port` can be reached from this machine alone."""
    return is_loopback(address.rpartition(":")[0].strip("[]"))


def refuse_open_door(addresses: Sequence[str]) -> None:
    """See that a token exists if one of the addresses can be reached from elsewhere.

    Args:
        addresses: what is listened on, as `host:port` with a host as it was configured or resolved.

    Raises:
        SettingsError: none exists.
    """
    outside = [address for address in addresses if not is_local(address)]
    if not outside:
        return
    with db.transaction() as session:
        if not session.scalar(select(select(ApiToken.id).where(*_valid()).exists())):
            raise SettingsError(
                f"REST would listen on {outside[0]}, which others can reach, and nobody has a token: run "
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
