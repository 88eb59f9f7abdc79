"""Orthanc, a DICOM server of another make, as a source and as a destination of objects."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from archive.dicom.peer import Peer
from tests.lab import peers
from tests.lab.member import Member
from tests.lab.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc and its REST interface."""

    peer: Peer
    client: httpx.Client
    process: Member

    def upload(self, files: Iterable[Path]) -> list[str]:
        """Store files by REST, which keeps their bytes; returns Orthanc's ids of their studies, each once."""
        answers = [self._json("POST", "/instances", content=path.read_bytes()) for path in files]
        return sorted({answer["ParentStudy"] for answer in answers})

    def instances(self) -> dict[str, str]:
        """Return Orthanc's ids of the objects that it has, by SOP Instance UID."""
        return {
            one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in self._json("GET", "/instances?expand") or []
        }

    def count(self) -> int:
        """Return how many objects it has."""
        return int(self._json("GET", "/statistics")["CountInstances"])

    def save(self, instance: str, path: Path) -> Path:
        """Write the file of an object, as Orthanc has stored it."""
        path.write_bytes(self.client.get(f"/instances/{instance}/file").raise_for_status().content)
        return path

    def send(self, studies: Iterable[str], modality: str) -> dict[str, Any]:
        """Send studies to one of its modalities by C-STORE and return its job when that has ended."""
        wanted = {"Resources": list(studies), "Synchronous": False}
        job = self._json("POST", f"/modalities/{modality}/store", json=wanted)["ID"]
        return wait_until(lambda: self._ended(job), f"Orthanc's job to {modality} has ended", say=self.process.tail)

    def echo(self, modality: str) -> bool:
        """Verify one of its modalities by C-ECHO."""
        return self.client.post(f"/modalities/{modality}/echo", json={}).is_success

    def forget(self) -> None:
        """Delete all that it has."""
        for study in self._json("GET", "/studies"):
            self._json("DELETE", f"/studies/{study}")

    def _ended(self, job: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self._json("GET", f"/jobs/{job}")
        return found if found["State"] in ("Success", "Failure") else None

    def _json(self, method: str, path: str, **content: Any) -> Any:
        return self.client.request(method, path, **content).raise_for_status().json()


@contextmanager
def orthanc(
    *modalities: Peer, port: int, rest_port: int, ae_title: str = "ORTHANC", **settings: object
) -> Iterator[Orthanc]:
    """Run Orthanc until the end of the block, with these AEs to send to; what it stores is gone then.

    Further arguments are settings of its configuration file; it syncs each file unless SyncStorageArea is false.
    """
    program = peers.need("Orthanc", "orthanc")
    with tempfile.TemporaryDirectory(prefix="arcfleet-orthanc-") as name:
        configuration = Path(name, "orthanc.json")
        given = _configuration(Path(name, "storage"), modalities)
        given |= {"DicomAet": ae_title, "DicomPort": port, "HttpPort": rest_port, **settings}
        configuration.write_text(json.dumps(given))
        command = [program, str(configuration)]
        process = Member(f"Orthanc {ae_title}", command, Path(name, "log"), peers.environment(**peers.NODELAY))
        with peers.running(process, port, rest_port), _client(rest_port) as client:
            yield Orthanc(Peer(ae_title, "127.0.0.1", port), client, process)


def _configuration(storage: Path, modalities: Iterable[Peer]) -> dict[str, object]:
    return {
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "Plugins": [],
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "DicomModalities": {one.ae_title: [one.ae_title, one.host, one.port] for one in modalities},
    }


def _client(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)
