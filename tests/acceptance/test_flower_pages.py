"""The pages of the archive in a browser, with scripts and without: list, filter, cancel, move, delete, detail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.run import Ending
from tasks.state import Status
from tests.lab import ldif
from tests.lab.browser import Browser, browser
from tests.lab.cluster import Lab, cluster
from tests.lab.waiting import wait_until

LONG = ldif.exporter("Long", uri="noop:", duration=300)
#: Only there; what it is for runs on no other device.
ONLY_B = ldif.Change(
    "dcmExporterID=OnlyB", {"dcmURI": "noop:", "dcmQueueName": "Export"}, ("archive-b",), "dcmExporter"
)

LIST = "/archive/tasks"

SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A cluster whose archive-a works, and whose archive-b has no worker, so that its tasks wait."""
    with cluster(LONG, ONLY_B) as made:
        made.ready(made.worker("archive-a"))
        yield made


@pytest.fixture(scope="module")
def url(lab: Lab) -> str:
    return lab.flower()[1]


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def page(window: Browser) -> Iterator[Browser]:
    window.size(1400, 1000)
    window.use_scripts(used=True)
    yield window
    assert window.faults == []


def shown(page: Browser) -> list[int]:
    """Return the tasks in the list, as they stand there."""
    links = "Array.from(document.querySelectorAll('#archive-tasks tbody td a[href^=\"/archive/tasks/\"]'))"
    return [int(text) for text in page.evaluate(f"{links}.map(link => link.textContent)")]


def waiting(lab: Lab, number: int, batch: str, **values: str) -> list[int]:
    """Schedule tasks that wait, because archive-b has no worker."""
    return lab.schedule(number, device="archive-b", batch_id=batch, **values)


def test_menu_leads_to_the_tasks(lab: Lab, url: str, page: Browser) -> None:
    [task_id] = lab.schedule()
    lab.await_status([task_id], Status.COMPLETED)
    page.go(url)
    assert "Workers" in page.text

    page.follow('.app-navbar a[href="/archive"]')

    assert page.url == f"{url}{LIST}"
    assert page.evaluate("document.querySelector('.app-navbar .active').textContent").strip() == "Archive"
    assert task_id in shown(page)
    page.await_text("Live")


def test_filters_narrow_the_list_down(lab: Lab, url: str, page: Browser) -> None:
    some = waiting(lab, 2, "filters")
    other = lab.schedule(batch_id="filters")
    lab.await_status(other, Status.COMPLETED)
    page.go(f"{url}{LIST}?batchID=filters")
    assert sorted(shown(page)) == sorted([*some, *other])

    page.choose('select[name="dicomDeviceName"]', "archive-b")

    assert sorted(shown(page)) == some
    assert "StudyInstanceUID=" not in page.url
    page.follow('a[data-status="COMPLETED"]')
    assert shown(page) == []
    assert "No task matches" in page.text


def test_counts_per_status_go_with_the_filter(lab: Lab, url: str, page: Browser) -> None:
    waiting(lab, 3, "counts")
    lab.await_status(lab.schedule(2, batch_id="counts"), Status.COMPLETED)

    page.go(f"{url}{LIST}?batchID=counts&status=SCHEDULED")

    counts = page.evaluate("Array.from(document.querySelectorAll('.task-state-filter')).map(a => a.innerText.trim())")
    assert counts[:2] == ["All 5", "Scheduled 3"]
    assert "Completed 2" in counts
    assert len(shown(page)) == 3


@SCRIPTS
def test_pages_follow_each_other_in_order(lab: Lab, url: str, page: Browser, scripts: bool) -> None:
    page.use_scripts(used=scripts)
    tasks = waiting(lab, 30, f"pages {scripts}")
    page.go(f"{url}{LIST}?batchID=pages+{scripts}&limit=25&orderby=scheduledTime")
    first = shown(page)
    assert "1–25 of 30" in page.text

    page.follow('a[rel="next"]')

    assert first + shown(page) == tasks
    page.follow('a[rel="prev"]')
    assert shown(page) == first
    page.follow("#archive-tasks th.archive-time a")
    assert shown(page) == tasks[::-1][:25]


@SCRIPTS
def test_ticked_tasks_are_canceled_after_a_preview(lab: Lab, url: str, page: Browser, scripts: bool) -> None:
    page.use_scripts(used=scripts)
    first, second, third = waiting(lab, 3, f"ticked {scripts}")
    page.go(f"{url}{LIST}?batchID=ticked+{scripts}")
    page.click(f'input[name="selected"][value="{first}"]')
    page.click(f'input[name="selected"][value="{third}"]')

    page.follow('button[value="cancel"]')

    assert "Cancel 2 tasks?" in page.text
    assert "Nothing has been changed yet" in page.text
    assert lab.count(ids=(first, second, third)) == {Status.SCHEDULED: 3}
    page.follow("#archive-confirm")
    assert "2 tasks canceled" in page.text
    assert [lab.task(one).status for one in (first, second, third)] == [
        Status.CANCELED,
        Status.SCHEDULED,
        Status.CANCELED,
    ]
    assert f"batchID=ticked+{scripts}" in page.url


def test_buttons_wait_for_a_tick(lab: Lab, url: str, page: Browser) -> None:
    waiting(lab, 3, "buttons")
    page.go(f"{url}{LIST}?batchID=buttons")
    disabled = "Array.from(document.querySelectorAll('button[name=action]')).map(button => button.disabled)"
    assert page.evaluate(disabled) == [True, True, True]

    page.click("[data-archive-tick-all]")

    assert page.evaluate(disabled) == [False, False, False]
    assert page.evaluate("document.querySelector('[data-archive-ticked]').textContent") == "3"


@SCRIPTS
def test_all_that_match_are_deleted(lab: Lab, url: str, page: Browser, scripts: bool) -> None:
    page.use_scripts(used=scripts)
    waiting(lab, 60, f"delete {scripts}")
    kept = waiting(lab, 1, f"keep {scripts}")
    page.go(f"{url}{LIST}?batchID=delete+{scripts}")
    page.click('input[name="which"][value="all"]')

    page.follow('button[value="delete"]')

    assert "Delete 60 tasks?" in page.text
    page.follow("#archive-confirm")
    assert "60 tasks deleted" in page.text
    assert lab.count(batch_id=f"delete {scripts}") == {}
    assert lab.count(ids=tuple(kept)) == {Status.SCHEDULED: 1}


def test_tasks_are_moved_to_a_device_that_is_chosen(lab: Lab, url: str, page: Browser) -> None:
    tasks = waiting(lab, 3, "move")
    page.go(f"{url}{LIST}?batchID=move")
    page.click('input[name="which"][value="all"]')
    page.follow('button[value="reschedule"]')
    assert "Run again 3 tasks?" in page.text

    page.choose('select[name="newDeviceName"]', "archive-a")

    assert "Move 3 tasks?" in page.text
    page.follow("#archive-confirm")
    lab.await_status(tasks, Status.COMPLETED)
    assert {lab.task(one).device for one in tasks} == {"archive-a"}
    page.await_text("Completed 3")


def test_task_is_run_again_where_it_was_without_scripts(lab: Lab, url: str, page: Browser) -> None:
    page.use_scripts(used=False)
    [task_id] = lab.schedule()
    lab.await_status([task_id], Status.COMPLETED)
    page.go(f"{url}{LIST}/{task_id}")

    page.follow('button[value="reschedule"]')
    page.follow("#archive-confirm")

    assert page.url == f"{url}{LIST}/{task_id}"
    assert "1 task scheduled anew" in page.text
    wait_until(lambda: [run.ending for run in lab.runs(task_id)] == [Ending.COMPLETED] * 2, "it ran twice")
    assert lab.task(task_id).device == "archive-a"


def test_preview_tells_what_would_be_refused_and_why(lab: Lab, url: str, page: Browser) -> None:
    [fixed] = waiting(lab, 1, "refused", exporter="OnlyB")
    [free] = waiting(lab, 1, "refused")

    page.go(f"{url}{LIST}/change?action=reschedule&which=all&batchID=refused&newDeviceName=archive-a")

    assert "Move 1 task?" in page.text
    assert "WOULD BE REFUSED" in page.text
    assert "OnlyB" in page.text
    page.follow("#archive-confirm")
    assert "1 task scheduled anew, 1 refused" in page.text
    lab.await_status([free], Status.COMPLETED)
    assert lab.task(fixed).status is Status.SCHEDULED


def test_time_and_priority_are_set(lab: Lab, url: str, page: Browser) -> None:
    [task_id] = waiting(lab, 1, "time")
    page.go(f"{url}{LIST}/change?action=reschedule&which=selected&selected={task_id}&taskPriority=9")
    page.evaluate("document.querySelector('[name=scheduledTime]').value = '2030-01-02T03:04'")

    page.follow("[data-archive-target] button")
    page.follow("#archive-confirm")

    task = lab.task(task_id)
    assert (task.priority, task.device) == (9, "archive-b")
    assert f"{task.scheduled_time:%Y%m%d%H%M%S}" == "20300102030400"


def test_running_task_is_canceled_on_its_own_page(lab: Lab, url: str, page: Browser) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)
    page.go(f"{url}{LIST}/{task_id}")
    assert "IN PROCESS" in page.text

    page.follow('button[value="cancel"]')
    page.follow("#archive-confirm")

    assert lab.await_end(run).ending == Ending.STOPPED
    page.await_text("stopped")
    assert page.evaluate("document.querySelector('#archive-status').textContent") == "CANCELED"


def test_terminate_in_flowers_own_page_cancels_the_task(lab: Lab, url: str, page: Browser) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)

    def has_button() -> bool:
        page.go(f"{url}/task/{task_id}.{run.id}")
        return bool(page.evaluate("document.querySelector('#task-terminate') !== null"))

    wait_until(has_button, "Flower knows that the run has started")
    page.click("#task-terminate")

    page.await_text(f"Task {task_id} is CANCELED")
    assert lab.task(task_id).status is Status.CANCELED
    lab.await_end(run)
    page.forget_faults()  # Flower hears of a run a moment after it began: until then its page is not there


@SCRIPTS
def test_detail_shows_history_runs_and_objects(lab: Lab, url: str, page: Browser, scripts: bool) -> None:
    page.use_scripts(used=scripts)
    study_uid = lab.store_study("archive-a", objects=3)
    [task_id] = lab.schedule(study_uid=study_uid, exporter="ToFolder")
    lab.await_status([task_id], Status.COMPLETED)
    page.go(f"{url}{LIST}?StudyInstanceUID={study_uid}")

    page.follow(f'a[href="{LIST}/{task_id}"]')

    history = page.evaluate("document.querySelector('#archive-history').innerText")
    assert [event in history for event in ("create", "claim", "succeed", "lab@localhost")] == [True] * 4
    assert "completed" in page.evaluate("document.querySelector('#archive-runs').innerText")
    assert page.evaluate("document.querySelectorAll('#archive-objects tbody tr').length") == 3
    assert study_uid in page.text


def test_detail_of_a_waiting_task_says_why_it_waits(lab: Lab, url: str, page: Browser) -> None:
    [task_id] = waiting(lab, 1, "why")

    page.go(f"{url}{LIST}/{task_id}")

    assert "no worker of channel archive-b lives" in page.text


def test_what_happens_is_seen_without_reloading(lab: Lab, url: str, page: Browser) -> None:
    first = waiting(lab, 1, "live")
    page.go(f"{url}{LIST}?batchID=live")
    page.await_text("Live")
    page.click(f'input[name="selected"][value="{first[0]}"]')

    second = waiting(lab, 1, "live")

    wait_until(lambda: sorted(shown(page)) == [*first, *second], "the new task is in the list")
    assert page.evaluate(f"document.querySelector('input[name=selected][value=\"{first[0]}\"]').checked")
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1


def test_text_of_others_is_no_markup(lab: Lab, url: str, page: Browser) -> None:
    [task_id] = waiting(lab, 1, "<img src=x onerror=alert(1)>")

    page.go(f"{url}{LIST}?taskID={task_id}")
    page.follow(f'a[href="{LIST}/{task_id}"]')

    assert "<img src=x onerror=alert(1)>" in page.text
    assert page.evaluate("document.querySelectorAll('main img').length") == 0


@pytest.mark.parametrize("width", [1400, 800])
def test_pages_fit_into_the_window(lab: Lab, url: str, page: Browser, width: int, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    study_uid = lab.store_study("archive-a", objects=3)
    tasks = lab.schedule(4, study_uid=study_uid, exporter="ToFolder")
    lab.await_status(tasks, Status.COMPLETED)
    waiting(lab, 4, "2026-11-21", study_uid=study_uid)
    page.size(width, 1000)
    pages = {
        "list": LIST,
        "task": f"{LIST}/{tasks[0]}",
        "move": f"{LIST}/change?action=reschedule&which=all&status=COMPLETED&newDeviceName=archive-b",
        "delete-all": f"{LIST}/change?action=delete&which=all",
    }

    for name, path in pages.items():
        page.go(f"{url}{path}")
        page.photograph(folder / f"{name}-{width}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
