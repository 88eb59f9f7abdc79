"""A client of Flower as a program is one, and as somebody is who has logged in with a browser."""

from __future__ import annotations

import re
from typing import Self

import httpx

from tests.lab.waiting import wait_until

_XSRF_FIELD = re.compile(r'name="_xsrf" value="([^"]+)"')


class Console:
    """Asks Flower; follows no redirection."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def cookies(self) -> httpx.Cookies:
        """What it was told to keep."""
        return self._http.cookies

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask for a page, as a browser does unless told otherwise."""
        return self._http.get(path, headers={"Accept": "text/html", **_named(headers)})

    def post(self, path: str, data: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        """Send a form."""
        return self._http.post(path, data=data, headers=_named(headers))

    def ask(self, method: str, path: str) -> httpx.Response:
        """Send a request without a body."""
        return self._http.request(method, path)

    def revoke(self, name: str, **form: str) -> httpx.Response:
        """Revoke a run as Flower's button does."""
        return self.post(f"/api/task/revoke/{name}", form)

    def log_in(self, token: str) -> httpx.Response:
        """Log in by the form; from then on the cookie is sent."""
        return self.post(
            "/login", {"token": token, "_xsrf": self.xsrf("/login")}, Origin=str(self._http.base_url).rstrip("/")
        )

    def xsrf(self, path: str) -> str:
        """Return what a form on that page carries against forgery."""
        found = _XSRF_FIELD.search(self.get(path).text)
        assert found is not None, f"{path} has no form"
        return found.group(1)

    def await_worker(self, name: str) -> str:
        """Wait until Flower knows a worker; returns its name. Those that have ended long since it knows too."""

        def known() -> bool:
            return name in self._http.get("/api/workers", params={"refresh": "1"}).json()

        wait_until(known, f"Flower knows worker {name}")
        return name

    def await_run(self, name: str, state: str) -> dict[str, object]:
        """Wait until Flower shows a run in a state; returns all that it shows."""

        def shown() -> dict[str, object] | None:
            answer = self._http.get(f"/api/task/info/{name}")
            info: dict[str, object] = answer.json() if answer.status_code == httpx.codes.OK else {}
            return info if info.get("state") == state else None

        found = wait_until(shown, f"Flower shows run {name} as {state}")
        assert found is not None
        return found


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
