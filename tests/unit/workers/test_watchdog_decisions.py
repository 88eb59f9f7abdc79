"""Which runs hang, which budgets of lost leases hold, and which lease a rescuer waits for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from config.device import Queue
from tasks.slots import OpenRun
from tests import factories
from workers import rescue

RUN = OpenRun(
    run_id=1, task_id=2, device="archive-a", queue="Export", sent_ago_s=100, claimed_ago_s=100, progress_ago_s=1,
    lease_left_s=5, stop_asked=False,
)  # fmt: skip


def hangs(run: OpenRun, *, max_run_time_s: float | None = None, max_silence_s: float | None = None) -> bool:
    queue = replace(factories.EXPORT, max_run_time=_span(max_run_time_s), max_silence=_span(max_silence_s))
    return rescue._hangs(run, factories.cluster(factories.device(queues={"Export": queue})))


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def test_run_without_limits_never_hangs() -> None:
    assert not hangs(replace(RUN, claimed_ago_s=1e9, progress_ago_s=1e9))


@pytest.mark.parametrize(("limit_s", "expected"), [(99.9, True), (100, False), (101, False)])
def test_run_hangs_when_it_runs_longer_than_its_queue_allows(limit_s: float, expected: bool) -> None:
    assert hangs(RUN, max_run_time_s=limit_s) is expected


@pytest.mark.parametrize(("silent_s", "expected"), [(59, False), (60, False), (60.1, True)])
def test_run_hangs_when_it_is_silent_for_too_long(silent_s: float, expected: bool) -> None:
    assert hangs(replace(RUN, progress_ago_s=silent_s), max_silence_s=60) is expected


def test_run_that_never_showed_progress_is_silent_since_its_claim() -> None:
    assert hangs(replace(RUN, progress_ago_s=None), max_silence_s=60)
    assert not hangs(replace(RUN, progress_ago_s=None), max_silence_s=120)


def test_reservation_that_nobody_claimed_does_not_hang() -> None:
    assert not hangs(replace(RUN, claimed_ago_s=None, progress_ago_s=None), max_run_time_s=1, max_silence_s=1)


@pytest.mark.parametrize("run", [replace(RUN, device="archive-x"), replace(RUN, queue="Import")])
def test_run_of_an_unknown_device_or_queue_is_left_alone(run: OpenRun) -> None:
    assert not hangs(run, max_run_time_s=1, max_silence_s=1)


def test_budgets_of_lost_leases_are_those_of_each_queue_of_our_devices() -> None:
    queues = {"Export": Queue("Export", max_lost_leases=50), "Retrieve": Queue("Retrieve")}
    devices = (factories.device(queues=queues), factories.device("archive-x", is_ours=False))

    assert rescue.budgets(factories.cluster(*devices)) == {("archive-a", "Export"): 50, ("archive-a", "Retrieve"): 3}


def test_longest_lease_is_that_of_our_devices() -> None:
    devices = (
        factories.device(task_lease=timedelta(seconds=3)),
        factories.device("archive-b", task_lease=timedelta(seconds=30)),
        factories.device("archive-x", task_lease=timedelta(hours=1), is_ours=False),
    )

    assert rescue.longest_lease(factories.cluster(*devices)) == timedelta(seconds=30)
    assert rescue.longest_lease(factories.cluster(devices[2])) == timedelta(seconds=60)
