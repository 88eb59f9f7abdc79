"""What the directory knows: AEs, web applications and their addresses, of all devices, also those of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers
from api.answers import Route
from api.rest import documents, parameters
from api.rest.documents import TEXT, TRUTH, array, thing
from api.rest.parameters import Given, Parameter, flag
from api.security import Reader
from archive import configuration
from config.device import ApplicationEntity, Device, NetworkConnection, WebApplication

router = APIRouter(tags=["cluster"], route_class=Route)

_DEVICE = Parameter("dicomDeviceName", "Only of this device.")
_TITLE = Parameter("dicomAETitle", "Only of this AE title.")

_OF_AES = (
    _DEVICE,
    _TITLE,
    flag("dicomAssociationInitiator", "Only AEs that open associations, or only others."),
    flag("dicomAssociationAcceptor", "Only AEs that accept associations, or only others."),
)
_OF_WEB_APPS = (
    _DEVICE,
    _TITLE,
    Parameter("dcmWebAppName", "Name of the web application."),
    Parameter("dcmWebServiceClass", "Service class that it has, for example DCM4CHEE_ARC.", repeatable=True),
)

_CONNECTION = thing(
    {"cn": TEXT, "dicomHostname": TEXT},
    {"dicomPort": documents.COUNT, "dicomTLSCipherSuite": array(TEXT), "dicomInstalled": TRUTH},
)
_AE = thing(
    {"dicomDeviceName": TEXT, "dicomAETitle": TEXT, "dicomAssociationInitiator": TRUTH,
     "dicomAssociationAcceptor": TRUTH},
    {"dcmOtherAETitle": array(TEXT), "dicomDescription": TEXT, "dicomInstalled": TRUTH,
     "dicomNetworkConnection": array(_CONNECTION)},
)  # fmt: skip
_WEB_APP = thing(
    {"dicomDeviceName": TEXT, "dcmWebAppName": TEXT, "dcmWebServicePath": TEXT},
    {"dicomDescription": TEXT, "dcmWebServiceClass": array(TEXT), "dicomAETitle": TEXT, "dcmProperty": array(TEXT),
     "dicomInstalled": TRUTH, "dicomNetworkConnection": array(_CONNECTION)},
)  # fmt: skip


@router.get("/aes", operation_id="aes", **documents.of(*_OF_AES, answer=array(_AE)))
def aes(request: Request, _caller: Reader) -> Response:
    """List the AEs of all devices of the directory, with their connections."""
    given = parameters.read(request, _OF_AES)
    found = [
        _ae(device, ae)
        for device in _devices(given)
        for ae in device.aes.values()
        if given.one("dicomAETitle") in (None, ae.title) and _plays(ae, given)
    ]
    return answers.as_json(sorted(found, key=lambda one: str(one["dicomAETitle"])), warnings=given.warnings)


@router.get("/webapps", operation_id="webapps", **documents.of(*_OF_WEB_APPS, answer=array(_WEB_APP)))
def webapps(request: Request, _caller: Reader) -> Response:
    """List the web applications of all devices of the directory, with their connections."""
    given = parameters.read(request, _OF_WEB_APPS)
    classes = set(given.all("dcmWebServiceClass", commas=True))
    found = [
        _web_app(device, app)
        for device in _devices(given)
        for app in device.web_apps.values()
        if given.one("dcmWebAppName") in (None, app.name)
        and given.one("dicomAETitle") in (None, app.ae_title)
        and classes <= set(app.service_classes)
    ]
    return answers.as_json(sorted(found, key=lambda one: str(one["dcmWebAppName"])), warnings=given.warnings)


def _devices(given: Given) -> Iterator[Device]:
    name = given.one("dicomDeviceName")
    yield from (device for _, device in sorted(configuration.current().devices.items()) if name in (None, device.name))


def _plays(ae: ApplicationEntity, given: Given) -> bool:
    roles = {"dicomAssociationInitiator": ae.initiator, "dicomAssociationAcceptor": ae.acceptor}
    return all(given.one(name) is None or given.is_true(name) == value for name, value in roles.items())


def _ae(device: Device, ae: ApplicationEntity) -> dict[str, Any]:
    return _told(
        {
            "dicomDeviceName": device.name,
            "dicomAETitle": ae.title,
            "dcmOtherAETitle": list(ae.other_titles),
            "dicomDescription": ae.description,
            "dicomAssociationInitiator": ae.initiator,
            "dicomAssociationAcceptor": ae.acceptor,
            "dicomInstalled": ae.installed,
            "dicomNetworkConnection": _connections(device, ae.connections),
        }
    )


def _web_app(device: Device, app: WebApplication) -> dict[str, Any]:
    return _told(
        {
            "dicomDeviceName": device.name,
            "dcmWebAppName": app.name,
            "dicomDescription": app.description,
            "dcmWebServicePath": app.path,
            "dcmWebServiceClass": list(app.service_classes),
            "dicomAETitle": app.ae_title,
            "dcmProperty": [f"{name}={value}" for name, value in app.properties.items()],
            "dicomInstalled": app.installed,
            "dicomNetworkConnection": _connections(device, app.connections),
        }
    )


def _connections(device: Device, names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [_connection(device.connections[name]) for name in names if name in device.connections]


def _connection(one: NetworkConnection) -> dict[str, Any]:
    return _told(
        {
            "cn": one.name,
            "dicomHostname": one.hostname,
            "dicomPort": one.port,
            "dicomTLSCipherSuite": list(one.tls_cipher_suites),
            "dicomInstalled": one.installed,
        }
    )


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != []}
