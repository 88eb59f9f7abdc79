"""Under which URL the REST services of a device are found: derived from its entry, as all devices are for others."""

from __future__ import annotations

from config.device import Device, NetworkConnection, WebApplication

#: Web applications of this class are where a device's REST services are found by others.
ARCHIVE_SERVICE_CLASS = "DCM4CHEE_ARC"

#: What is left out of a URL.
_USUAL_PORTS = {"http": 80, "https": 443}


def of_archive(device: Device) -> str | None:
    """Return the base URL of a device's services, without a slash at its end; None: it has none.

    It is that of the first web application by name that is of the class DCM4CHEE_ARC and has an installed HTTP
    connection, by https if one of them has TLS cipher suites.

    Source: manual "Rescheduling Tasks within Cluster"
    """
    for app in sorted(device.web_apps.values(), key=lambda one: one.name):
        connections = _connections(device, app)
        if connections:
            return _url(next((one for one in connections if one.tls_cipher_suites), connections[0]), app.path)
    return None


def _connections(device: Device, app: WebApplication) -> list[NetworkConnection]:
    if ARCHIVE_SERVICE_CLASS not in app.service_classes or app.installed is False:
        return []
    return device.installed_connections(app.connections, "HTTP")


def _url(connection: NetworkConnection, path: str) -> str:
    scheme = "https" if connection.tls_cipher_suites else "http"
    host = f"[{connection.hostname}]" if ":" in connection.hostname else connection.hostname
    port = "" if connection.port in (None, _USUAL_PORTS[scheme]) else f":{connection.port}"
    return f"{scheme}://{host}{port}{path}".rstrip("/")
