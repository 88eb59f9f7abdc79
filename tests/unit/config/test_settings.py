"""Settings: environment over file, secrets in files, and what is unknown is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import settings
from config.errors import SettingsError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("ARCFLEET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ARCFLEET_HOME", str(tmp_path))
    settings.reload()
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)
    settings.reload()


def test_defaults_need_nothing(home: Path) -> None:
    current = settings.current()

    assert (current.home, current.api_host, current.api_port, current.flower_port) == (home, "127.0.0.1", 8080, 5555)
    assert not current.is_set("api_port")
    assert current.zone() is not None


def test_environment_wins_over_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "arcfleet.toml").write_text('api_port = 1\nARCFLEET_LOG = "debug"\ndevices = ["a", "b"]\n')
    monkeypatch.setenv("ARCFLEET_API_PORT", "2")

    loaded = settings.reload()

    assert (loaded.api_port, loaded.log, loaded.devices) == (2, "DEBUG", ("a", "b"))
    assert loaded.is_set("api_port")


def test_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCFLEET_DATABASE_URL", "")
    monkeypatch.setenv("ARCFLEET_DEVICES", " archive-a, archive-b ,")

    loaded = settings.reload()

    assert loaded.database_url is None
    assert loaded.devices == ("archive-a", "archive-b")


def test_secret_comes_from_its_file_and_is_not_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "secret").write_text("postgresql://u:hidden@h/d\n")
    monkeypatch.setenv("ARCFLEET_DATABASE_URL_FILE", str(home / "secret"))

    loaded = settings.reload()

    assert loaded.database() == "postgresql://u:hidden@h/d"
    assert "hidden" not in repr(loaded)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"ARCFLEET_DATABSE_URL": "x"},
            "ARCFLEET_DATABSE_URL: unknown; the nearest that is known is ARCFLEET_DATABASE",
        ),
        ({"ARCFLEET_API_PORT": "http"}, "ARCFLEET_API_PORT='http': expected a TCP port from 1 to 65535"),
        ({"ARCFLEET_API_PORT": "70000"}, "ARCFLEET_API_PORT='70000': expected a TCP port"),
        ({"ARCFLEET_LOG_FORMAT": "xml"}, "ARCFLEET_LOG_FORMAT='xml': expected console or json"),
        ({"ARCFLEET_TIMEZONE": "Mars"}, "ARCFLEET_TIMEZONE='Mars': expected the IANA name"),
        ({"ARCFLEET_BROKER_URL": "http://u:hidden@h"}, "ARCFLEET_BROKER_URL: expected redis://"),
        ({"ARCFLEET_NOTIFY_FILE": "/no/such/file"}, "ARCFLEET_NOTIFY_FILE='/no/such/file': expected a file"),
        ({"ARCFLEET_NOTIFY": "x", "ARCFLEET_NOTIFY_FILE": "x"}, "ARCFLEET_NOTIFY and ARCFLEET_NOTIFY_FILE are both"),
    ],
)
def test_what_cannot_be_used_is_named(variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        settings.reload()

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("api_prot = 1", "api_prot: unknown; the nearest that is known is"),
        ("api_port = 'x'", "arcfleet.toml: api_port='x': expected a TCP port"),
        ("api_port = ", "expected TOML"),
        ("home = '/x'", "expected in the environment (ARCFLEET_HOME)"),
    ],
)
def test_what_cannot_be_used_in_the_file_is_named(text: str, message: str, home: Path) -> None:
    (home / "arcfleet.toml").write_text(text)

    with pytest.raises(SettingsError) as caught:
        settings.reload()

    assert message in str(caught.value)
    assert "arcfleet.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_option_of_the_command_line_reaches_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCFLEET_BROKER_URL_FILE", "/gone")

    settings.override(broker_url="redis://h", devices=["a", "b"], api_port=None)
    settings.export_node("archive-a.1@host")

    code = "from config import settings as s; c = s.current(); print(c.broker(), c.devices, s.node_id())"
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path.cwd())
    assert child.stdout.strip() == "redis://h ('a', 'b') archive-a.1@host"


def test_bad_option_changes_nothing() -> None:
    before = dict(os.environ)

    with pytest.raises(SettingsError, match="ARCFLEET_API_PORT='0'"):
        settings.override(api_port=0, api_host="h")

    assert dict(os.environ) == before
    assert settings.current().api_host == "127.0.0.1"


def run_file(home: Path, pid: int) -> None:
    content = {"pid": pid, "database_url": "postgresql://x", "broker_url": "redis+socket:///x", "offset": 100}
    (home / "run.json").write_text(json.dumps(content))


def test_servers_of_a_running_up_are_used(home: Path) -> None:
    run_file(home, os.getpid())

    current = settings.current()

    assert (current.database(), current.broker()) == ("postgresql://x", "redis+socket:///x")
    up = current.up()
    assert up is not None
    assert up.offset == 100


def test_servers_of_an_up_that_is_gone_are_not_used(home: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run_file(home, gone.pid)

    with pytest.raises(SettingsError) as caught:
        settings.current().database()

    assert str(caught.value) == (
        f"no database: ARCFLEET_DATABASE_URL is not set and no `arcfleet up` runs in {home}; "
        "start `arcfleet up` or set it"
    )


def test_run_file_that_nobody_wrote_is_named(home: Path) -> None:
    (home / "run.json").write_text("[]")

    with pytest.raises(SettingsError, match="expected what `arcfleet up` writes"):
        settings.current().broker()


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("storage/x", "{home}/storage/x"),
        ("/data", "/data"),
        ("file:export", "{home}/export"),
        ("file:///a%20b", "/a b"),
        ("file:/a", "/a"),
    ],
)
def test_relative_folders_lie_in_the_home(place: str, folder: str, home: Path) -> None:
    assert settings.current().folder(place) == Path(folder.format(home=home))


@pytest.mark.parametrize("place", ["file://host/x", "file:"])
def test_folders_elsewhere_are_refused(place: str) -> None:
    with pytest.raises(SettingsError, match="expected file:FOLDER"):
        settings.current().folder(place)


def test_every_setting_says_what_it_may_hold() -> None:
    assert all(text != "None" for text in settings.known().values())
    assert "ARCFLEET_HOME" in settings.known()
