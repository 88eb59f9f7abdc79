"""Where a device takes associations, by its configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archive.dicom import listening
from config.device import ApplicationEntity, Device, NetworkConnection

PLAIN = NetworkConnection("dicom", "127.0.0.1", 11112)
INSIDE = NetworkConnection("inside", "archive.example", 104, bind_address="::1")
AE = ApplicationEntity("ARCHIVE_A", ("dicom",), other_titles=("ARCFLEET", "*"))


def device(*aes: ApplicationEntity, connections: tuple[NetworkConnection, ...] = (PLAIN, INSIDE)) -> Device:
    return Device("archive-a", connections={c.name: c for c in connections}, aes={ae.title: ae for ae in aes})


def test_device_listens_where_an_ae_takes_associations() -> None:
    second = ApplicationEntity("SECOND", ("inside", "dicom"))

    found = listening.of(device(AE, second), offset=100)

    assert found == [
        listening.Listening("127.0.0.1", 11212, ("dicom",), ("ARCHIVE_A", "SECOND", "ARCFLEET")),
        listening.Listening("::1", 204, ("inside",), ("SECOND",)),
    ]


def test_two_connections_of_one_address_are_listened_on_once() -> None:
    twin = replace(PLAIN, name="twin")

    [found] = listening.of(device(AE, ApplicationEntity("TWIN", ("twin",)), connections=(PLAIN, twin)), offset=0)

    assert (found.connections, found.titles) == (("dicom", "twin"), ("ARCHIVE_A", "TWIN", "ARCFLEET"))


@pytest.mark.parametrize(
    "connection",
    [
        replace(PLAIN, port=None),
        replace(PLAIN, installed=False),
        replace(PLAIN, protocol="HTTP"),
        replace(PLAIN, tls_cipher_suites=("TLS_AES_128_GCM_SHA256",)),
        replace(PLAIN, name="other"),
    ],
)
def test_connection_that_is_not_for_it_is_not_listened_on(connection: NetworkConnection) -> None:
    assert listening.of(device(AE, connections=(connection,)), offset=0) == []


@pytest.mark.parametrize("ae", [replace(AE, acceptor=False), replace(AE, installed=False)])
def test_ae_that_takes_no_associations_opens_no_port(ae: ApplicationEntity) -> None:
    assert listening.of(device(ae), offset=0) == []


def test_device_that_is_not_installed_takes_nothing() -> None:
    assert listening.of(replace(device(AE), installed=False), offset=0) == []


def test_connection_that_is_gone_leaves_the_limits_that_are_usual() -> None:
    assert listening.connection_of(device(AE), ("gone", "inside")) == INSIDE
    assert listening.connection_of(device(AE), ("gone",)).idle_timeout == PLAIN.idle_timeout
