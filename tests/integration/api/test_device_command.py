"""`arcfleet device show`, and another AE for a task, within this process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from api.cli.device import device
from api.cli.task import task
from config import settings
from config.device import ApplicationEntity
from tests import factories
from workers import app


@pytest.fixture
def _machine(cluster: None, api_database: str, broker: str, tmp_path: Path) -> Iterator[None]:
    settings.override(database_url=api_database, broker_url=broker)
    app.app.conf.broker_url = broker
    yield
    structlog.reset_defaults()  # it logs to the output of a runner that is gone


pytestmark = pytest.mark.usefixtures("_machine")


def run(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def test_device_with_its_workers_and_what_stays_when_it_is_away() -> None:
    factories.use_cluster(
        factories.device(failover_devices=("archive-b",), failover_after=timedelta(minutes=5)),
        factories.device("archive-b"),
    )
    factories.seen_worker("archive-a")
    factories.sql(
        "INSERT INTO failover (device, since, moved, stays, reasons, looked_at) "
        "VALUES ('archive-a', now(), 5, 2, '[[\"no exporter\", 2]]', now())"
    )

    shown, listed, unknown = run(device, "show", "archive-a"), run(device, "list"), run(device, "show", "nowhere")

    assert (shown.exit_code, listed.exit_code, unknown.exit_code) == (0, 0, 1)
    assert "archive-a.1@host" in shown.stdout
    assert "failover: to archive-b after 300 s" in shown.stdout
    assert "       2  no exporter" in shown.stdout
    assert "to archive-b after 300 s" in listed.stdout
    assert "Unknown Device: nowhere" in unknown.stderr


def test_task_gets_another_local_ae() -> None:
    aes = {"ARCHIVE_A": ApplicationEntity("ARCHIVE_A"), "SECOND": ApplicationEntity("SECOND")}
    factories.use_cluster(factories.device(aes=aes))
    [made] = factories.insert(local_aet="ARCHIVE_A")

    result = run(task, "reschedule", str(made.id), "--new-local-aet", "SECOND")

    assert result.exit_code == 0, result.output
    assert [one.local_aet for one in factories.views()] == ["SECOND"]
