"""`arcfleet config` on the sample: exit codes, JSON, and a change that is written or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli.config import config_group
from archive import configuration
from config import settings, source
from config.errors import ConfigError

EXPORT = "dcmQueueName=Export,dicomDeviceName=archive-a,cn=Devices,cn=DICOM Configuration,dc=dcm4che,dc=org"


@pytest.fixture(autouse=True)
def file(tmp_path: Path) -> Iterator[Path]:
    before = dict(os.environ)
    settings.override(home=tmp_path)
    configuration.reset()
    yield tmp_path / "config.ldif"
    os.environ.clear()
    os.environ.update(before)
    settings.reload()
    configuration.reset()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(config_group, arguments, catch_exceptions=True, standalone_mode=False)


def test_sample_is_good() -> None:
    result = run("check")

    assert result.return_value == 0
    assert "3 devices, 2 of them ours; error: 0, warning: 0, info: 0" in result.output


def test_errors_are_listed_with_exit_code_1(file: Path) -> None:
    file.write_bytes(source.sample().replace(b"dcmMaxRetries: 10", b"dcmMaxRetries: ten", 1))

    result = run("check", "--json")

    assert result.return_value == 1
    found = json.loads(result.output)
    (error,) = [finding for finding in found["findings"] if finding["severity"] == "error"]
    assert (error["dn"], error["attribute"], error["value"]) == (EXPORT, "dcmMaxRetries", "ten")


def test_malformed_file_is_one_error(file: Path) -> None:
    file.write_bytes(source.sample() + b"garbage\n")

    result = run("check")

    assert isinstance(result.exception, ConfigError)
    assert "config.ldif line" in str(result.exception)


def test_show_lists_all_devices_or_one() -> None:
    devices = json.loads(run("show", "--json").output)
    device = json.loads(run("show", "archive-a", "--json").output)

    assert [found["name"] for found in devices] == ["archive-a", "archive-b", "pacs"]
    assert device == devices[0]
    assert device["queues"]["Export"]["retry_delay"] == "PT30S"
    assert "archive-a" in run("show").output
    assert f"dn: {EXPORT}\n" in run("show", "archive-a").output
    assert "expected one of archive-a, archive-b, pacs" in str(run("show", "none").exception)


def test_set_writes_one_attribute(file: Path) -> None:
    run("check")

    result = run("set", EXPORT, "dcmMaxTasksParallel", "8")

    assert result.exception is None, result.exception
    parts = source.sample().partition(b"dn: dcmQueueName=Export")
    changed = parts[2].replace(b"dcmMaxTasksParallel: 4", b"dcmMaxTasksParallel: 8", 1)
    assert file.read_bytes() == parts[0] + parts[1] + changed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((EXPORT, "dcmRetryDelay", "30"), "dcmRetryDelay='30': expected an ISO-8601 duration"),
        ((EXPORT, "dcmMaxRetries", "1", "2"), "expected one value"),
        ((EXPORT, "dcmMaxRetrys", "1"), "the nearest is dcmMaxRetries"),
        (("cn=none", "cn", "1"), "expected the DN of an entry"),
        ((EXPORT, "dcmQueueName", "--remove"), "the entry is named by it"),
        ((EXPORT, "dcmMaxRetries"), "expected at least one VALUE, or --remove"),
    ],
)
def test_set_refuses_what_is_invalid_and_changes_nothing(arguments: tuple[str, ...], message: str, file: Path) -> None:
    run("check")

    result = run("set", *arguments)

    assert message in str(result.exception)
    assert file.read_bytes() == source.sample()


def test_export_gives_the_same_devices(tmp_path: Path) -> None:
    before = run("show", "--json").output
    exported = tmp_path / "exported.ldif"
    run("export", "--output", str(exported))

    settings.override(config_url=exported.as_uri())
    configuration.reset()

    assert run("show", "--json").output == before
    assert "expected a file that can be made" in str(run("export", "--output", str(exported)).exception)
