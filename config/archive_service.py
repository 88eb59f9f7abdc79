"""Where the REST services of a device are found by others."""

from __future__ import annotations

from config.device import Device, NetworkConnection, WebApplication

#: Web applications of this class are a device's REST services.
SERVICE_CLASS = "DCM4CHEE_ARC"


def url_of(device: Device, *, offset: int = 0) -> str | None:
    """Return the URL of a device's REST services, None if it has none.

    It is that of the first web application by name that has an installed HTTP connection; one for TLS is preferred.

    Args:
        device: installed or not.
        offset: added to the port.

    Source: dcmWebApp with dcmWebServiceClass DCM4CHEE_ARC
    """
    for _, service in sorted(device.web_apps.items()):
        connections = _connections(device, service)
        if connections:
            chosen = next((one for one in connections if one.tls_cipher_suites), connections[0])
            scheme = "https" if chosen.tls_cipher_suites else "http"
            host = f"[{chosen.hostname}]" if ":" in chosen.hostname else chosen.hostname
            return f"{scheme}://{host}:{(chosen.port or 0) + offset}{service.path.rstrip('/')}"
    return None


def _connections(device: Device, service: WebApplication) -> list[NetworkConnection]:
    if SERVICE_CLASS not in service.service_classes or service.installed is False:
        return []
    return [one for one in device.installed_connections(service.connections, "HTTP") if one.port is not None]
