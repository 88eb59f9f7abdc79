"""What must not be printed: passwords and tokens, wherever a text may have brought them along."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

from config.running import Up
from config.settings import Settings

MASK = "***"

_NAMED = "pass|secret|token|key"
#: `scheme://user:password@`, whatever the password holds besides blanks.
_IN_URL = re.compile(r"(\w://[^/\s:@]*):[^\s]*@(?=[^\s@]*)")
#: `password=...` in a query or a connection string.
_IN_QUERY = re.compile(rf"(?i)(\b\w*(?:{_NAMED})\w*=)[^&\s]+")


def shown(url: str) -> str:
    """Return a URL without its secrets."""
    return _IN_QUERY.sub(rf"\1{MASK}", _IN_URL.sub(rf"\1:{MASK}@", url))


class Secrets:
    """What is known to be secret here."""

    def __init__(self, given: Settings | None, up: Up | None) -> None:
        values = {
            secret.get_secret_value()
            for secret in (given.database_url, given.broker_url, given.ldap_password, given.token, given.notify)
            if secret is not None
        } if given is not None else set()  # fmt: skip
        urls = {value for value in values if "://" in value} | set(_urls_of(up))
        found = (values - urls) | {secret for url in urls for secret in _within(url)}
        # A plain word stands in texts for other reasons, and to mask it there would tell it.
        kept = sorted((one for one in found if len(one) > 3 and not one.isalpha()), key=len, reverse=True)
        self._literal = re.compile("|".join(map(re.escape, kept))) if kept else None

    def masked(self, text: str) -> str:
        """Return a text without them."""
        cleaned = shown(text)
        return cleaned if self._literal is None else self._literal.sub(MASK, cleaned)


def _urls_of(up: Up | None) -> Iterable[str]:
    return (url for url in ((up.database_url, up.broker_url) if up is not None else ()) if url is not None)


def _within(url: str) -> Iterable[str]:
    """Yield the secrets of a URL, as written and as meant."""
    parts = urlsplit(url)
    userinfo = parts.netloc.rpartition("@")[0]
    password = userinfo.partition(":")[2]
    yield from {password, unquote(password)} - {""}
    for name, value in parse_qsl(parts.query):
        if re.search(_NAMED, name, re.IGNORECASE):
            yield value
