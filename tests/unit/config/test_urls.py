"""The URL of a device: which web application, which connection, and how it is written."""

from __future__ import annotations

from config import archive_service
from config.device import Device, NetworkConnection, WebApplication

HTTP = NetworkConnection("http", "one.example", 8080, "HTTP")
HTTPS = NetworkConnection("https", "one.example", 8443, "HTTP", tls_cipher_suites=("TLS_AES_128_GCM_SHA256",))
DICOM = NetworkConnection("dicom", "one.example", 11112)


def app(name: str, *connections: str, classes: tuple[str, ...] = ("DCM4CHEE_ARC",), **values: object) -> WebApplication:
    return WebApplication(name, "/dcm4chee-arc", classes, connections, **values)  # type: ignore[arg-type]


def url(*apps: WebApplication, connections: tuple[NetworkConnection, ...] = (HTTP, HTTPS, DICOM)) -> str | None:
    return archive_service.url_of(
        Device(
            "archive",
            connections={one.name: one for one in connections},
            web_apps={one.name: one for one in apps},
        )
    )


def test_https_is_preferred() -> None:
    assert url(app("a", "http", "https")) == "https://one.example:8443/dcm4chee-arc"
    assert url(app("a", "http")) == "http://one.example:8080/dcm4chee-arc"


def test_first_application_by_name_that_can_be_reached_wins() -> None:
    other = NetworkConnection("other", "two.example", 80, "HTTP")

    assert url(app("b", "http"), app("a", "other"), connections=(HTTP, other)) == "http://two.example:80/dcm4chee-arc"
    assert url(app("b", "http"), app("a", "dicom")) == "http://one.example:8080/dcm4chee-arc"


def test_what_is_not_installed_or_of_another_class_does_not_count() -> None:
    away = NetworkConnection("away", "one.example", 8080, "HTTP", installed=False)

    assert url(app("a", "http", classes=("WADO_RS",))) is None
    assert url(app("a", "http", installed=False)) is None
    assert url(app("a", "away"), connections=(away,)) is None
    assert url() is None


def test_address_of_ip_version_6_stands_in_brackets() -> None:
    six = NetworkConnection("six", "2001:db8::1", 443, "HTTP", tls_cipher_suites=("X",))

    assert url(app("a", "six"), connections=(six,)) == "https://[2001:db8::1]:443/dcm4chee-arc"
