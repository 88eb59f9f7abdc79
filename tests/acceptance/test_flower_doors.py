"""Who gets into Flower: tokens and logins, roles, forged requests, and a process that listens to no stranger."""

from __future__ import annotations

from collections.abc import Iterator

import flower.urls
import httpx
import pytest
from sqlalchemy import select
from tornado.routing import URLSpec

from api import security
from archive.accounts import AuditEntry, Role
from tasks import operations
from tasks.record import NewTask
from tasks.state import Status
from tests.lab.cluster import BY, Lab, cluster
from tests.lab.console import Console

FOREIGN = {"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with cluster() as made:
        yield made


@pytest.fixture(scope="module")
def open_url(lab: Lab) -> str:
    """Flower's URL, asked before anybody has a token."""
    url = lab.flower()[1]
    with Console(url) as local:
        assert local.get("/archive/tasks").status_code == 200
        assert local.get("/login").headers["location"] == "/"
        assert local.get("/archive/tasks", Host="evil.example").status_code == 403
        assert local.post("/api/worker/shutdown/nobody", **FOREIGN).status_code == 403
    with Console(url) as program:
        assert program.post("/api/worker/shutdown/nobody").status_code == 404
    return url


@pytest.fixture(scope="module")
def tokens(lab: Lab, open_url: str) -> dict[Role, str]:
    return {role: security.add_token(f"the {role}", role, "test") for role in Role}


@pytest.fixture
def stranger(open_url: str, tokens: dict[Role, str]) -> Iterator[Console]:
    with Console(open_url) as made:
        yield made


@pytest.fixture
def visitors(open_url: str, tokens: dict[Role, str]) -> Iterator[dict[Role, Console]]:
    made = {role: Console(open_url, token) for role, token in tokens.items()}
    yield made
    for one in made.values():
        one.__exit__()


def routes() -> list[str]:
    """Return a path for each route of Flower."""
    found = []
    for given in flower.urls.handlers:
        spec = given if isinstance(given, URLSpec) else URLSpec(*given)
        if spec.handler_class.__name__ not in {"StaticFileHandler", "Healthcheck", "LoginHandler", "LogoutHandler"}:
            found.append(
                spec.regex.pattern.rstrip("$").replace("(.+)", "x").replace("(.*)", "x").replace(".*", "/none")
            )
    return found


@pytest.mark.parametrize(
    "path", [*routes(), "/archive/tasks", "/archive/tasks/1", "/archive/tasks/change", "/archive/live"]
)
def test_no_route_answers_a_stranger(stranger: Console, path: str) -> None:
    assert stranger.get(path, Accept="*/*").status_code == 401
    assert stranger.post(path).status_code in (401, 405)


def test_page_leads_a_stranger_to_the_login_and_back(stranger: Console, tokens: dict[Role, str]) -> None:
    sent_away = stranger.get("/archive/tasks?status=FAILED")
    assert (sent_away.status_code, sent_away.headers["location"]) == (
        302,
        "/login?next=%2Farchive%2Ftasks%3Fstatus%3DFAILED",
    )
    form = stranger.get(sent_away.headers["location"])
    assert 'name="next" value="/archive/tasks?status=FAILED"' in form.text

    refused = stranger.log_in("arcfleet_wrong")
    assert refused.status_code == 401
    assert "the token is unknown, revoked or expired" in refused.text
    assert stranger.log_in(tokens[Role.READER]).status_code == 303

    page = stranger.get("/archive/tasks")
    assert page.status_code == 200
    assert "Log out the reader" in page.text
    stranger.get("/logout")
    assert stranger.get("/archive/tasks").status_code == 302


@pytest.mark.parametrize("goal", ["//evil.example/x", "http://evil.example/", "/\\evil.example"])
def test_login_leads_to_no_other_site(stranger: Console, goal: str) -> None:
    assert 'name="next" value="/"' in stranger._http.get("/login", params={"next": goal}).text


def test_cookie_is_signed_and_kept_from_scripts(stranger: Console, tokens: dict[Role, str]) -> None:
    answer = stranger.log_in(tokens[Role.READER])
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("arcfleet_login"))

    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert tokens[Role.READER] not in cookie
    forged = cookie.partition(";")[0].replace("dGhlIHJlYWRlcg", "dGhlIGFkbWluICA")
    assert httpx.get(str(stranger._http.base_url) + "/archive/tasks", headers={"Cookie": forged}).status_code == 401


def test_reverse_proxy_is_believed_only_if_it_is_trusted(lab: Lab, tokens: dict[Role, str], open_url: str) -> None:
    passed_on = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1, 198.51.100.7"}
    _, trusting = lab.flower(ARCFLEET_TRUSTED_PROXIES="127.0.0.1")
    form = {"token": tokens[Role.READER]}

    cookies = [
        httpx.post(f"{url}/login", data=form, headers=passed_on, trust_env=False).headers["set-cookie"]
        for url in (trusting, open_url)
    ]

    assert ["Secure" in cookie for cookie in cookies] == [True, False]
    [task_id] = lab.schedule()
    headers = {**passed_on, "Authorization": f"Bearer {tokens[Role.OPERATOR]}"}
    for url in (trusting, open_url):
        change = {"action": "reschedule", "which": "selected", "selected": str(task_id)}
        httpx.post(f"{url}/archive/tasks/change", data=change, headers=headers, trust_env=False)
    query = select(AuditEntry.host).where(AuditEntry.action == "RescheduleTasks").order_by(AuditEntry.id)
    assert lab.ask(lambda session: list(session.scalars(query))) == ["198.51.100.7", "127.0.0.1"]


def test_login_ends_with_its_token(open_url: str, tokens: dict[Role, str]) -> None:
    token = security.add_token("leaves soon", Role.READER, "test")
    with Console(open_url) as visitor:
        visitor.log_in(token)
        assert visitor.get("/archive/tasks").status_code == 200

        security.revoke_token("leaves soon")

        assert visitor.get("/archive/tasks").status_code == 302


def test_login_survives_a_restart_of_flower(lab: Lab, stranger: Console, tokens: dict[Role, str]) -> None:
    stranger.log_in(tokens[Role.READER])
    name, value = next((name, value) for name, value in stranger.cookies.items() if name == "arcfleet_login")

    _, url = lab.flower()

    assert httpx.get(f"{url}/archive/tasks", cookies={name: value}, trust_env=False).status_code == 200


def test_form_of_another_site_changes_nothing(stranger: Console, tokens: dict[Role, str], lab: Lab) -> None:
    [task_id] = lab.schedule()
    stranger.log_in(tokens[Role.OPERATOR])
    form = {"action": "cancel", "which": "selected", "selected": str(task_id)}

    foreign = stranger.post(
        "/archive/tasks/change",
        {**form, "_xsrf": stranger.xsrf("/archive/tasks/change?action=cancel&which=all")},
        **FOREIGN,
    )
    without = stranger.post("/archive/tasks/change", form)

    assert (foreign.status_code, without.status_code) == (403, 403)
    assert lab.task(task_id).status is Status.SCHEDULED


def test_reader_sees_and_changes_nothing(visitors: dict[Role, Console], lab: Lab) -> None:
    [task_id] = lab.schedule()
    reader = visitors[Role.READER]

    page = reader.get("/archive/tasks")
    assert page.status_code == 200
    assert 'name="selected"' not in page.text
    assert "Delete…" not in page.text
    assert reader.get(f"/archive/tasks/{task_id}").status_code == 200
    for action in ("cancel", "reschedule", "delete"):
        change = f"/archive/tasks/change?action={action}&which=selected&selected={task_id}"
        assert reader.get(change).status_code == 403
        assert (
            reader.post("/archive/tasks/change", dict(httpx.QueryParams(change.partition("?")[2]))).status_code == 403
        )
    assert reader.revoke(f"{task_id}.1").status_code == 403
    assert reader.post("/api/worker/shutdown/x").status_code == 403
    assert lab.task(task_id).status is Status.SCHEDULED


def test_submitter_cancels_its_own_tasks_only(visitors: dict[Role, Console], lab: Lab) -> None:
    own = NewTask("EXPORT", "archive-a", "", exporter_id="Noop", study_uid="1.2.3", requester_user="the submitter")
    [mine] = operations.schedule_all([own], BY)
    [foreign] = lab.schedule()
    submitter = visitors[Role.SUBMITTER]
    form = {"action": "cancel", "which": "selected", "selected": f"{mine.id},{foreign}"}

    assert submitter.post("/archive/tasks/change", form).status_code == 303

    assert lab.task(mine.id).status is Status.CANCELED
    assert lab.task(foreign).status is Status.SCHEDULED
    assert submitter.post("/archive/tasks/change", {**form, "action": "delete"}).status_code == 403
    assert submitter.revoke(f"{foreign}.1").status_code in (403, 404)


def test_change_is_audited_with_who_and_how_many(visitors: dict[Role, Console], lab: Lab) -> None:
    some = lab.schedule(3, batch_id="audited")
    form = {"action": "delete", "which": "all", "batchID": "audited"}

    assert visitors[Role.OPERATOR].post("/archive/tasks/change", form).status_code == 303

    query = select(AuditEntry).where(AuditEntry.action == "DeleteTasks").order_by(AuditEntry.id.desc()).limit(1)
    entry = lab.ask(lambda session: session.scalars(query).one())
    assert (entry.user, entry.host, entry.count, entry.failed, entry.outcome) == (
        "the operator",
        "127.0.0.1",
        len(some),
        0,
        None,
    )
    assert "batchID=audited" in entry.what


def test_every_task_wants_to_be_said(visitors: dict[Role, Console], lab: Lab) -> None:
    lab.schedule()
    operator = visitors[Role.OPERATOR]

    refused = operator.post("/archive/tasks/change", {"action": "delete", "which": "all"})

    assert refused.status_code == 400
    assert "all=true" in refused.text
    assert "every task of the cluster" in operator.get("/archive/tasks/change?action=delete&which=all").text


def test_it_listens_to_no_stranger_as_long_as_nobody_has_a_token() -> None:
    with cluster() as lab, pytest.raises(AssertionError, match="others can reach, and nobody has a token"):
        lab.flower(ARCFLEET_FLOWER_HOST="0.0.0.0")
