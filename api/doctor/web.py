"""HTTP: whether the REST services of each device answer at their URL, and what else listens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from api import addresses
from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.doctor.limits import NoAnswer, each
from config import archive_service

SAY = Subject("HTTP")

#: Seconds for each step of a request, and for all requests together.
_STEP_S = 3.0
_ALL_S = 8.0
#: Characters of an answer that are shown.
_SHOWN = 200
#: Below a URL of REST; below one of Flower.
_READY, _FLOWER_READY = "/health/ready", "/healthcheck"


@dataclass(frozen=True, slots=True)
class _Page:
    """What may listen on this machine."""

    name: str
    url: str
    path: str
    #: Its log, in the home of an `arcfleet up`.
    log: str
    must_be: bool


def devices(case: Case) -> Iterator[Finding]:
    """Ask each device's REST services, at the URL by which others find them."""
    urls = {device.name: archive_service.url_of(device, offset=case.offset) for device in case.devices()}
    named = [(name, url) for name, url in urls.items() if url is not None]  # what has none is in `config check`
    for (name, url), problem in each(_ALL_S, named, lambda one: _problem_of(one[1] + _READY)):
        if problem is None:
            yield SAY.ok(f"URL of {name}", f"{url} answers", device=name)
        else:
            do = f"arcfleet api --device {name}, on {url.split('/')[2]}"
            yield SAY.error(f"URL of {name}", f"{url}: {problem}", "status 200", do, device=name)


def pages(case: Case) -> Iterator[Finding]:
    """Ask REST and Flower of this machine; only an `arcfleet up` that runs must have them."""
    given, up = case.given, case.up
    rest = addresses.own_address(given, offset=case.offset).url
    flower = addresses.flower_address(given, offset=case.offset).url
    asked = (
        _Page("REST", rest, _READY, "api", must_be=up is not None),
        _Page(
            "Flower", flower, _FLOWER_READY,
            "flower", must_be=up is not None and up.flower_url is not None,
        ),
    )  # fmt: skip
    for page, problem in each(_ALL_S, asked, lambda one: _problem_of(one.url + one.path)):
        if problem is None:
            yield SAY.ok(f"{page.name} here", f"{page.url} answers")
        elif page.must_be:
            do = f"see logs/{page.log}.log of the home"
            yield SAY.error(f"{page.name} here", f"{page.url}: {problem}", "status 200", do)
        else:
            yield SAY.note(f"{page.name} here", f"{page.url}: {problem}")


def _problem_of(url: str) -> str | NoAnswer | None:
    try:
        answer = httpx.get(url, timeout=_STEP_S, trust_env=False)
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    if answer.status_code == httpx.codes.OK:
        return None
    return f"status {answer.status_code}: {' '.join(answer.text[:_SHOWN].split())}"
