"""compose.yaml, Dockerfile and their files, which no test can run: against schema, settings and command line."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from config import entries, settings, source
from config.told import SECRETS
from tests.lab import command_line, ldif

PROJECT = Path(__file__).parents[3]

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("arcfleet:")}
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
CONFIGURATION = PROJECT / "deploy" / "config" / "config.ldif"

#: What containers have different from the sample, in which everything is on one machine.
CHANGES = (
    *(
        ldif.Change("cn=dicom", {"dicomHostname": f"dicom-{name}", "dcmBindAddress": "0.0.0.0"}, (name,))
        for name in ldif.DEVICES
    ),
    ldif.Change("cn=http", {"dicomHostname": "api", "dcmBindAddress": "0.0.0.0"}),
    ldif.Change("cn=dicom", {"dicomHostname": "pacs.example"}, ("pacs",)),
)


def lines_of(service: dict[str, Any]) -> Iterator[list[str]]:
    """Yield each command line of ours that a service runs, without `arcfleet`."""
    if service.get("entrypoint") == ["sh", "-c"]:
        for line in service["command"][0].split("&&"):
            program, *arguments = shlex.split(line)
            assert program == "arcfleet"
            yield arguments
    else:
        yield service["command"]
    if "healthcheck" in service:
        kind, program, *arguments = service["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "arcfleet")
        yield arguments


def test_compose_file_fits_its_schema() -> None:
    schema = json.loads(Path(__file__).with_name("compose.schema.json").read_text())

    found = [f"{'.'.join(map(str, e.instance_path))}: {e.message}" for e in jsonschema_rs.iter_errors(schema, COMPOSE)]

    assert found == []


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_a_service_is_one_of_ours(name: str) -> None:
    for arguments in lines_of(OURS[name]):
        # A file that a container will have; here the parser must be able to open it.
        command_line.parse(["-" if one.startswith("/run/secrets/") else one for one in arguments])


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_service_is_a_setting(name: str) -> None:
    known = {*settings.known(), *(f"ARCFLEET_{secret.upper()}_FILE" for secret in SECRETS)}

    assert set(SERVICES[name]["environment"]) <= known


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]

    assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    for mount in service["volumes"]:
        place = mount.partition(":")[0]
        assert (PROJECT / place).is_dir() if place.startswith("./") else place in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_that_are_read_are_given_and_none_stands_in_the_file(name: str) -> None:
    text = json.dumps(SERVICES[name])

    read = set(re.findall(r"/run/secrets/(\w+)", text))

    assert read <= set(SERVICES[name].get("secrets", []))
    assert not re.search(r"(?i)(password|passwd|secret|token)\"?: \"(?!/run/secrets/)", text)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "setup"])
def test_every_service_that_stays_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["retries"] >= 3


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_one_image_and_not_root(name: str) -> None:
    service = OURS[name]

    assert (
        service["image"] == f"arcfleet:{tomllib.loads((PROJECT / 'pyproject.toml').read_text())['project']['version']}"
    )
    assert service["user"] == "10001:10001"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_cluster_has_all_its_processes() -> None:
    commands = {" ".join(service["command"]) for service in OURS.values()}

    assert {"intake", "beat", "api", "flower"} <= commands
    assert {f"{what} --device {name}" for what in ("worker", "dicom") for name in ldif.DEVICES} <= commands


def test_broker_keeps_what_it_took() -> None:
    command = SERVICES["valkey"]["command"]

    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_only_dicom_is_reached_from_other_machines() -> None:
    open_to_all = {name for name in SERVICES for port in SERVICES[name].get("ports", []) if port.count(":") == 1}

    assert open_to_all == {"dicom-archive-a", "dicom-archive-b"}


# ---- the configuration


def test_configuration_is_the_sample_with_the_names_of_the_services(tmp_path: Path) -> None:
    """If it is not: write what `ldif.make(path, CHANGES)` writes."""
    ldif.make(tmp_path / "config.ldif", CHANGES)

    assert CONFIGURATION.read_text() == (tmp_path / "config.ldif").read_text()


def test_configuration_is_valid_and_listens_on_the_ports_that_are_published() -> None:
    read = entries.read(source.open_source(CONFIGURATION.as_uri(), PROJECT).entries(), ())

    assert not [finding for finding in read.findings if finding.is_error]
    for name in ldif.DEVICES:
        connection = read.cluster.devices[name].connections["dicom"]
        assert connection.hostname in SERVICES
        assert SERVICES[connection.hostname]["ports"] == [f"{connection.port}:{connection.port}"]
        assert connection.bind_address == "0.0.0.0"


# ---- secrets


def test_secrets_are_written_once_and_fit_what_reads_them(tmp_path: Path) -> None:
    script = tmp_path / "make"
    script.write_text((PROJECT / "deploy" / "secrets" / "make").read_text())
    subprocess.run(["sh", str(script)], check=True)
    before = {path.name: path.read_text().strip() for path in tmp_path.iterdir()}

    subprocess.run(["sh", str(script)], check=True)

    assert {path.name: path.read_text().strip() for path in tmp_path.iterdir()} == before
    assert set(before) - {"make"} == set(COMPOSE["secrets"])
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    for name in COMPOSE["secrets"]:
        assert Path(COMPOSE["secrets"][name]["file"]).name == name
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o444
    assert f":{before['postgres_password']}@postgres:5432/" in before["database_url"]
    assert f":{before['valkey_conf'].removeprefix('requirepass ')}@valkey:6379/" in before["broker_url"]
    assert len(before["operator_token"]) >= 32


# ---- the image


def test_image_copies_every_package_and_no_more() -> None:
    packages = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    let_in = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert copied == {name.partition(".")[0] for name in packages}
    named = set(re.findall(r"(\S+)", " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE))))
    assert named == let_in
    assert all((PROJECT / name).exists() for name in named)


def test_image_runs_as_an_ordinary_user_and_is_set_up_by_known_variables() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)[-1] == "10001:10001"
    assert set(re.findall(r"\b(ARCFLEET_\w+)=", DOCKERFILE)) <= set(settings.known())
    assert 'ENTRYPOINT ["arcfleet"]' in DOCKERFILE


def test_pinned_setuptools_is_what_the_image_takes_from_the_lock() -> None:
    [pattern] = re.findall(r"sed -n '(.*?)'", DOCKERFILE)

    taken = subprocess.run(
        ["sed", "-n", pattern, str(PROJECT / "requirements-dev.lock")], capture_output=True, text=True, check=True
    ).stdout

    assert re.fullmatch(r"setuptools==\S+ \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", taken)


@pytest.mark.parametrize("path", ["compose.yaml", "Dockerfile", "deploy/secrets/make"])
def test_no_file_names_an_index_of_packages(path: str) -> None:
    assert not re.search(r"https?:|--(extra-)?index\b|--find-links", (PROJECT / path).read_text())
