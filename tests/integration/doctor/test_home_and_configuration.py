"""What doctor says of settings, home and configuration; that it tells no secret and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from api.doctor.finding import Severity
from archive import configuration, db
from config import settings
from config.errors import ConfigError
from config.ldif_source import LdifSource
from tests import factories
from tests.lab import ldif
from tests.lab.examined import by_command, doctor, examine
from workers.version import VERSION


@pytest.fixture
def nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nothing runs and nothing lies."""
    monkeypatch.delenv("ARCFLEET_DATABASE_URL")
    monkeypatch.delenv("ARCFLEET_BROKER_URL")
    monkeypatch.setenv("ARCFLEET_HOME", str(home / "empty"))
    settings.reload()
    return home / "empty"


def test_nothing_that_runs_is_said_and_the_machine_is_looked_at(nothing: Path) -> None:
    said = by_command()

    found = said.of("home", "what runs")
    assert said.code == 0
    assert (found.severity, found.expected) == (Severity.WARNING, "a cluster")
    assert found.found.startswith("nothing runs: ARCFLEET_DATABASE_URL and ARCFLEET_BROKER_URL not set")
    assert f"arcfleet {VERSION} on Python" in said.of("machine", "Python").found
    assert said.of("packages", "versions").severity is Severity.OK
    assert not nothing.exists()


def test_up_that_was_killed_is_told(nothing: Path) -> None:
    nothing.mkdir()
    (nothing / "run.json").write_text(json.dumps({"pid": 2**22 + 1}))

    found = [one for one in examine().findings if one.what == "what runs"]

    assert "an `arcfleet up` that is gone: it was killed" in found[0].found


def test_setting_that_cannot_be_read_is_an_error_and_no_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCFLEET_DATABSE_URL", "x")

    said = by_command()

    assert said.code == 1
    assert "ARCFLEET_DATABSE_URL" in said.of("home", "settings").found
    assert "the settings cannot be read" in said.of("doctor", "not looked at").found


def test_findings_of_config_check_are_findings_of_doctor(home: Path, source: LdifSource) -> None:
    strange = ldif.exporter("Strange", "archive-a", uri="wado:X")
    lost = ldif.exporter("Lost", "archive-a", uri="noop:", queue="Nowhere")
    ldif.apply(source.path, [strange, lost])

    said = examine()

    scheme = said.of("configuration", "dcmURI=wado:X of dcmExporterID=Strange,dicomDeviceName=archive-a")
    queue = said.of("configuration", "dcmQueueName=Nowhere of dcmExporterID=Lost,dicomDeviceName=archive-a")
    assert (scheme.severity, scheme.device) == (Severity.WARNING, "archive-a")
    assert "the scheme wado is not supported" in scheme.found
    assert queue.severity is Severity.ERROR


def test_file_that_cannot_be_read_is_an_error_and_the_last_good_one_is_gone_by(home: Path) -> None:
    assert set(configuration.current().ours) == {"archive-a", "archive-b"}
    configuration.reset()
    (home / "config.ldif").write_text("dn: cn=x\nno line of LDIF\n")

    said = examine()

    found = said.of("configuration", "source")
    assert (found.severity, found.expected) == (Severity.ERROR, "a source that can be read")
    assert "config.ldif" in found.found
    assert found.found.endswith("processes go on with the last good one")
    assert said.says("workers", "channel archive-a")


def test_machine_with_another_file_than_the_others_is_a_warning(home: Path, source: LdifSource) -> None:
    assert configuration.current().ours  # a process reads it, and keeps it as the one in use
    same = examine().of("configuration", "in use")
    ldif.apply(source.path, [ldif.queue("Export", dcmMaxTasksParallel="1")])
    other = examine().of("configuration", "in use")

    assert same.severity is Severity.OK
    assert (other.severity, other.expected) == (Severity.WARNING, "that of this machine")


def test_device_of_another_cluster_in_the_same_tree_is_not_looked_at(
    home: Path, source: LdifSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"archive-a": "north", "archive-b": "south"}
    ldif.apply(source.path, [ldif.device(device, arcClusterName=name) for device, name in named.items()])
    monkeypatch.setenv("ARCFLEET_CLUSTER", "north")
    settings.reload()

    said = examine()

    assert said.of("configuration", "source").found.endswith(" 1 of ours")
    assert said.says("workers", "channel archive-a")
    assert not said.says("workers", "channel archive-b")


def test_windows_without_a_time_zone_of_the_device_are_a_note(home: Path, source: LdifSource) -> None:
    ldif.apply(source.path, [ldif.queue("Export", "archive-a", dcmSchedule="hour=20-6")])

    found = examine().of("configuration", "time zone of archive-a")

    assert (found.severity, found.device) == (Severity.NOTE, "archive-a")
    assert "UTC" in found.found


def test_unknown_device_is_refused_with_those_that_there_are(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"Device 'archive-z' in --device: expected one of archive-a, archive-b"):
        examine("archive-z")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_secret_is_printed(home: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    monkeypatch.setenv(
        "ARCFLEET_DATABASE_URL", "postgresql://arc:s3cr3t%2Fdb@127.0.0.1:1/arcfleet?sslpassword=s3cr3t-k"
    )
    monkeypatch.setenv("ARCFLEET_BROKER_URL", "redis://:s3cr3t-broker@127.0.0.1:1/0")
    monkeypatch.setenv("ARCFLEET_TOKEN", "arcfleet_s3cr3t-token")

    ended = doctor(*options)

    assert ended.returncode == 1
    assert "postgresql://arc:***@127.0.0.1:1/arcfleet" in ended.stdout
    assert "redis://:***@127.0.0.1:1/0" in ended.stdout
    assert "s3cr3t" not in ended.stdout + ended.stderr


def test_output_for_people_has_no_colours_in_a_pipe_and_can_be_cut_to_the_problems(home: Path) -> None:
    all_of_it, problems = doctor("--no-remote"), doctor("--no-remote", "--problems")

    assert (all_of_it.returncode, problems.returncode) == (1, 1)
    assert "\x1b" not in all_of_it.stdout
    assert "schema revision" in all_of_it.stdout
    assert "schema revision" not in problems.stdout
    assert "do: arcfleet beat" in problems.stdout
    assert problems.stdout.splitlines()[-1].startswith("ok: ")


def test_json_is_typed(home: Path) -> None:
    content = json.loads(doctor("--json", "--no-remote").stdout)

    assert content["version"] == VERSION
    assert content["worst"] == "error"
    assert set(content["counts"]) == {"ok", "note", "warning", "error"}
    assert sum(content["counts"].values()) == len(content["findings"])
    for one in content["findings"]:
        assert list(one) == ["severity", "subject", "what", "found", "expected", "do", "device"]
        assert one["severity"] in content["counts"]
        assert one["device"] is None or one["device"].startswith("archive-")
        assert all(isinstance(one[name], str) for name in ("subject", "what", "found", "expected", "do"))
        assert one["severity"] not in ("warning", "error") or one["found"]


def test_doctor_changes_nothing(home: Path, database: str) -> None:
    factories.insert(3)
    before = content_of(home, database)

    examine()

    assert content_of(home, database) == before


def content_of(home: Path, database: str) -> object:
    """Return all rows of all tables, and all files of the home with their times."""
    db.use(None)
    with psycopg.connect(database) as connection:
        names = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        rows = {name: connection.execute(f'SELECT * FROM "{name}" ORDER BY 1').fetchall() for name in sorted(names)}
    return rows, {str(path): path.stat().st_mtime_ns for path in home.rglob("*")}
