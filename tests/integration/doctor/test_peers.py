"""What doctor says of what should answer by DICOM and HTTP; a peer that hangs keeps nobody."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.doctor.finding import Severity
from config.ldif_source import LdifSource
from tests.lab import ldif
from tests.lab.acts import Act, Answer, Hang, Reject
from tests.lab.examined import examine
from tests.lab.misbehaving import Misbehaving

Ports = dict[tuple[str, str], int]


def test_own_ae_that_nobody_serves_is_an_error_with_address_and_command(home: Path, ports: Ports) -> None:
    found = examine().of("DICOM", "C-ECHO ARCHIVE_A")

    port = ports["cn=dicom", "archive-a"]
    assert (found.severity, found.device) == (Severity.ERROR, "archive-a")
    assert found.found.startswith(f"ARCHIVE_A at 127.0.0.1:{port}: Connection refused (called by ARCHIVE_A")
    assert found.do == "arcfleet dicom --device archive-a"


@pytest.mark.parametrize(
    ("act", "severity", "text"),
    [
        (Answer(), Severity.OK, "answers ARCHIVE_A"),
        (Reject(), Severity.WARNING, "association rejected (permanent, service user: called AE title not recognized)"),
        (Hang(), Severity.WARNING, "(called by ARCHIVE_A; exporter ToPACS of archive-a)"),
    ],
    ids=["answers", "rejects", "hangs"],
)
def test_remote_ae_of_an_exporter_is_asked(home: Path, ports: Ports, act: Act, severity: Severity, text: str) -> None:
    with Misbehaving(associations=lambda _: act, port=ports["cn=dicom", "pacs"]) as peer:
        found = examine().of("DICOM", "C-ECHO PACS")

    assert found.severity is severity
    assert text in found.found
    assert peer.associations == 1


def test_remote_aes_are_left_alone_when_that_is_wanted(home: Path, ports: Ports) -> None:
    with Misbehaving(port=ports["cn=dicom", "pacs"]) as peer:
        said = examine(remote=False)

    assert said.of("DICOM", "remote AEs").severity is Severity.NOTE
    assert peer.associations == 0


def test_one_device_asks_all_aes_of_the_directory(home: Path, source: LdifSource) -> None:
    with Misbehaving(ae_title="OTHER") as peer:
        ldif.apply(source.path, ldif.remote("OTHER", peer.peer.port))

        assert not examine().says("DICOM", "C-ECHO OTHER")
        assert examine("archive-b").of("DICOM", "C-ECHO OTHER").found.endswith("answers ARCHIVE_B")


def test_connection_for_tls_is_a_note(home: Path, source: LdifSource) -> None:
    tls = {"dicomTLSCipherSuite": "TLS_RSA_WITH_AES_128_CBC_SHA"}
    ldif.apply(source.path, [ldif.Change("cn=dicom", tls, ("archive-a",))])

    assert examine().of("DICOM", "connection dicom of archive-a").severity is Severity.NOTE


@contextmanager
def answering(port: int, status: int, text: str) -> Iterator[list[str]]:
    """Answer every request so; yields the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield asked
        finally:
            server.shutdown()


def test_url_of_each_device_is_asked(home: Path, ports: Ports) -> None:
    with answering(ports["cn=http", "archive-a"], 200, "UP") as asked:
        said = examine()

    closed = said.of("HTTP", "URL of archive-b")
    assert said.of("HTTP", "URL of archive-a").severity is Severity.OK
    assert asked == ["/dcm4chee-arc/health/ready"]
    assert (closed.severity, closed.expected) == (Severity.ERROR, "status 200")
    assert closed.found.startswith(f"http://127.0.0.1:{ports['cn=http', 'archive-b']}/dcm4chee-arc: ")
    assert closed.do.startswith("arcfleet api --device archive-b")


def test_services_that_are_not_ready_say_why(home: Path, ports: Ports) -> None:
    with answering(ports["cn=http", "archive-a"], 503, '{"status":"DOWN",\n"database":"away"}'):
        found = examine().of("HTTP", "URL of archive-a")

    assert found.severity is Severity.ERROR
    assert found.found.endswith('/dcm4chee-arc: status 503: {"status":"DOWN", "database":"away"}')


def test_pages_of_this_machine_are_a_note_where_nothing_says_that_they_run_here(home: Path) -> None:
    said = examine()

    assert said.of("HTTP", "REST here").severity is Severity.NOTE
    assert said.of("HTTP", "Flower here").severity is Severity.NOTE


@pytest.mark.parametrize("change", [{"dcmWebServiceClass": "QIDO_RS"}, {"dicomInstalled": "FALSE"}])
def test_device_without_services_of_its_class_is_an_error(
    home: Path, source: LdifSource, change: dict[str, str]
) -> None:
    ldif.apply(source.path, [ldif.Change("dcmWebAppName=archive-a", change, ("archive-a",))])

    said = examine()

    found = said.of("configuration", "dicomDeviceName=archive-a")
    assert (found.severity, found.device) == (Severity.ERROR, "archive-a")
    assert "a web application of class DCM4CHEE_ARC" in found.found
    assert not said.says("HTTP", "URL of archive-a")
