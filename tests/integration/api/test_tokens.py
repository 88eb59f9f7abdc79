"""Who may do what: tokens, roles, loopback without any token, and the door that stays shut."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from api import security
from api.app import create_app
from archive.accounts import Role
from config.errors import SettingsError
from tasks.errors import ConflictError, InvalidError, NotFoundError
from tests import factories
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of

MADE = f"{BASE}/aets/ARCHIVE_A/rs/studies/1.2.3/export/Noop"

#: What each role may do: reader, submitter, operator, admin.
SERVICES = [
    ("GET", EXPORTS, (200, 200, 200, 200)),
    ("GET", f"{BASE}/devices", (200, 200, 200, 200)),
    ("GET", f"{BASE}/metrics", (200, 200, 200, 200)),
    ("GET", f"{BASE}/openapi.json", (200, 200, 200, 200)),
    ("POST", MADE, (403, 202, 202, 202)),
    ("POST", f"{EXPORTS}/cancel?status=SCHEDULED", (403, 200, 200, 200)),
    ("POST", f"{EXPORTS}/reschedule?status=FAILED", (403, 403, 200, 200)),
    ("DELETE", f"{EXPORTS}?status=FAILED", (403, 403, 200, 200)),
    ("POST", f"{BASE}/devices/archive-a/pause", (403, 403, 204, 204)),
    ("POST", f"{BASE}/devices/archive-a/resume", (403, 403, 204, 204)),
]


@pytest.mark.parametrize(("method", "path", "statuses"), SERVICES)
def test_role(cluster: None, method: str, path: str, statuses: tuple[int, ...]) -> None:
    for role, status in zip(Role, statuses, strict=True):
        token = security.add_token(f"a {role}", role, "tester")
        with Wire(create_app(beyond_loopback=True), token, came_from="10.0.0.7") as wire:
            assert wire.ask(method, path).status_code == status, role


def test_submitter_cancels_only_its_own(cluster: None) -> None:
    [foreign] = factories.insert(study_uid="9.9")
    with Wire(create_app(), security.add_token("pump", Role.SUBMITTER, "tester")) as wire:
        own = wire.post(MADE).json()["taskID"]
        second = wire.post(f"{MADE}?allowDuplicate=true").json()["taskID"]

        refused = wire.post(f"{EXPORTS}/{foreign.id}/cancel")
        bulk = wire.post(f"{EXPORTS}/cancel?status=SCHEDULED&taskID={own}&taskID={foreign.id}")
        single = wire.post(f"{EXPORTS}/{second}/cancel")

    assert refused.status_code == 403
    assert f"Task {foreign.id}" in error_of(refused)
    assert bulk.content == b'{"count":1}'
    assert single.status_code == 204
    assert factories.status_of(foreign.id) == "SCHEDULED"


def test_loopback_is_open_while_nobody_has_a_token(wire: Wire) -> None:
    assert wire.get(EXPORTS).status_code == 200
    assert wire.post(f"{EXPORTS}/reschedule?status=FAILED").status_code == 200


def test_loopback_needs_a_token_once_there_was_one(wire: Wire) -> None:
    security.add_token("first", Role.READER, "tester")

    answer = wire.get(EXPORTS)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "arcfleet token add" in error_of(answer)
    security.revoke_token("first")
    assert wire.get(EXPORTS).status_code == 401


def test_beyond_loopback_every_request_needs_a_token(cluster: None) -> None:
    with Wire(create_app(beyond_loopback=True)) as wire:
        assert wire.get(EXPORTS).status_code == 401
        assert wire.get(f"{BASE}/version").status_code == 401
        assert wire.get(f"{BASE}/openapi.json").status_code == 401
        assert wire.get("/metrics").status_code == 401
        assert wire.get("/health/ready").status_code == 200
        assert wire.get(f"{BASE}/health/live").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "archive.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:8080", "origin": "http://localhost:8080"}, 200),
    ],
)
def test_pages_of_others_cannot_steer_an_open_machine(wire: Wire, headers: dict[str, str], status: int) -> None:
    assert wire.post(f"{EXPORTS}/reschedule?status=FAILED", **headers).status_code == status


def test_request_from_elsewhere_is_refused_without_a_token(cluster: None) -> None:
    with Wire(create_app(), came_from="10.0.0.7") as wire:
        assert wire.get(EXPORTS).status_code == 401


def test_wrong_revoked_and_expired_tokens_are_refused(cluster: None) -> None:
    revoked = security.add_token("revoked", Role.ADMIN, "tester")
    security.revoke_token("revoked")
    expired = security.add_token("expired", Role.ADMIN, "tester", datetime.now(UTC) - timedelta(seconds=1))
    for token in ("wrong", revoked, expired):
        with Wire(create_app(), token) as wire:
            answer = wire.get(EXPORTS)
            assert answer.status_code == 401
            assert token not in error_of(answer)


def test_token_in_the_query_works_and_is_kept_nowhere(cluster: None, caplog: pytest.LogCaptureFixture) -> None:
    token = security.add_token("page", Role.OPERATOR, "tester")
    caplog.set_level(logging.DEBUG)

    with capture_logs() as lines, Wire(create_app()) as wire:
        answer = wire.post(f"{MADE}?batchID=b&access_token={token}&taskPriority=3")
        task_id = answer.json()["taskID"]
        wire.post(f"{EXPORTS}/cancel?status=SCHEDULED&Access_Token={token}")
        wire.post(f"{EXPORTS}/{task_id}/reschedule?%61ccess_token={token}")

    assert "access_token" in answer.headers["warning"]
    assert answer.json()["RequestURI"] == f"{MADE}?batchID=b&taskPriority=3"
    # The log of httpx is the client's own.
    kept = [str(lines), *(record.getMessage() for record in caplog.records if record.name != "httpx")]
    for table in ("task", "history", "audit", "api_token"):
        kept += factories.sql(f"SELECT row_to_json(t)::text FROM {table} AS t")
    assert len(kept) > 6
    assert not [text for text in kept if token in text]


def test_use_of_a_token_is_noted(cluster: None) -> None:
    with Wire(create_app(), security.add_token("seen", Role.READER, "tester")) as wire:
        wire.get(EXPORTS)

    [token] = security.tokens()
    assert token.last_used_at is not None


def test_names_of_tokens_are_used_once(cluster: None) -> None:
    security.add_token("x", Role.READER, "tester")
    security.revoke_token("x")

    with pytest.raises(ConflictError, match="x"):
        security.add_token("x", Role.READER, "tester")
    with pytest.raises(ConflictError, match="revoked already"):
        security.revoke_token("x")
    with pytest.raises(NotFoundError, match="y does not exist, expected one of: x"):
        security.revoke_token("y")


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "192.168.1.7:8081", "archive:80"])
def test_nothing_listens_beyond_loopback_without_a_token(cluster: None, address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        security.refuse_open_door(["127.0.0.1:8080", address])

    assert address in str(refused.value)
    assert "arcfleet token add" in str(refused.value)
    security.refuse_open_door(["127.0.0.1:8080", "[::1]:8080"])
    security.add_token("x", Role.READER, "tester")
    security.refuse_open_door([address])


def test_token_that_somebody_else_made_up_is_valid(cluster: None) -> None:
    given = "s" * 32

    assert security.add_token("ops", Role.OPERATOR, "tester", given=given) == given

    assert security.is_valid(given)
    with Wire(create_app(), given) as wire:
        assert wire.get(f"{BASE}/version").status_code == 200


@pytest.mark.parametrize("given", ["", "s" * 31, "s" * 31 + "\n", "\u00e9" * 32])
def test_token_that_is_too_weak_is_refused_and_not_shown(cluster: None, given: str) -> None:
    with pytest.raises(InvalidError, match="expected at least 32 printable characters") as refused:
        security.add_token("ops", Role.OPERATOR, "tester", given=given)

    assert not given or given not in str(refused.value)
