"""The OpenAPI document as the judge of every answer that tests get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx
import jsonschema_rs

from api.app import create_app, openapi

_JSON = "application/json"


def check(answer: httpx.Response) -> httpx.Response:
    """Return an answer that is as the document says; one of a service that it does not name is let through."""
    path = answer.request.url.raw_path.decode().partition("?")[0]
    template = next((one for one, pattern in _patterns() if pattern.fullmatch(path)), None)
    method = answer.request.method.lower()
    if template is None or method not in document()["paths"][template]:
        return answer
    described = document()["paths"][template][method]["responses"]
    where = f"{answer.request.method} {template}: {answer.status_code}"
    assert str(answer.status_code) in described, f"{where} is not among {sorted(described)}: {answer.text}"
    content: Mapping[str, Any] = described[str(answer.status_code)].get("content", {})
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    if answer.content and content:
        assert media_type in content, f"{where} is {media_type}, not one of {sorted(content)}"
    if answer.content and media_type == _JSON and content:
        found = jsonschema_rs.iter_errors(content[_JSON]["schema"], answer.json())
        said = [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in found]
        assert said == [], f"{where}: {answer.text}"
    return answer


@cache
def document() -> dict[str, Any]:
    """Return the document; it does not depend on the configuration."""
    return openapi(create_app())


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Return each path with what it matches, the most special ones first."""

    def general(template: str) -> tuple[int, int]:
        return template.count("{"), -len(re.sub(r"\{\w+\}", "", template))

    return [(one, _pattern(one)) for one in sorted(document()["paths"], key=general)]


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", template)
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in parts))
