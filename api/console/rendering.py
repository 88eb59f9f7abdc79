"""Templates: ours in front of Flower's, and our entries in its navigation bar."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import flower
from tornado.template import BaseLoader, Template

_OURS = Path(__file__).parent / "templates"
_FLOWERS = Path(flower.__file__).parent / "templates"

STATIC_FOLDER = Path(__file__).parent / "static"
STATIC_PATH = "/archive/static/"

_BAR = "navbar.html"
_END_OF_LIST = "</ul>"


class Templates(BaseLoader):
    """Loads a template by its name, ours first; names never are relative."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:  # noqa: ARG002
        """Return the name as it is."""
        return name

    def _create_template(self, name: str) -> Template:
        own = _OURS / name
        text = (own if own.is_file() else _FLOWERS / name).read_text("utf-8")
        return Template(_with_our_entries(text) if name == _BAR else text, name=name, loader=self)


def static(name: str) -> str:
    """Return the URL of a file of ours, with its content's digest, so that browsers may keep it."""
    return f"{STATIC_PATH}{name}?v={_digest(name)}"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC_FOLDER / name).read_bytes()).hexdigest()[:12]


def _with_our_entries(bar: str) -> str:
    """Add our menu behind Flower's (the first list), and who is logged in to the end of the last list."""
    first, end, rest = bar.partition(_END_OF_LIST)
    middle, last, tail = rest.rpartition(_END_OF_LIST)
    if not end or not last:
        raise ValueError(f"{_FLOWERS / _BAR}: expected two lists of entries, as in Flower 2.2")
    menu = '{% module Template("archive/menu.html", active_tab=active_tab) %}'
    who = '{% module Template("archive/who.html") %}'
    return f"{first}{menu}{end}{middle}{who}{last}{tail}"
