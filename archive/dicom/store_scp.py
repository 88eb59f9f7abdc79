"""C-ECHO and C-STORE for one association: what became of each object, as a DIMSE status."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import structlog

from archive import db, errors
from archive.dicom import status
from archive.dicom.acceptor import Proposal, Services, StoreRequest
from archive.dicom.status import Status
from archive.receiving.reception import Offered, Reception
from archive.storage import file_systems
from archive.storage.choosing import Chooser
from archive.storage.ingest import Ending
from config.device import Device

_log = structlog.get_logger()

#: Nothing is wrong with the object: another time, or elsewhere, it can be stored.
_NO_PLACE = (errors.StorageError, errors.NotConfigured, *db.OUTAGES)


class StoreScp:
    """Receives objects for a device; one for each process."""

    def __init__(self, series_stored: Callable[[str], None]) -> None:
        """Begin with nothing open.

        Args:
            series_stored: called with the device's name behind each association that brought something.
        """
        self.series_stored = series_stored
        self._lock = threading.Lock()
        self._chooser: Chooser | None = None

    def services(self, device: Device, proposal: Proposal) -> Services:
        """Return what an association with this device can use; nothing is read or written yet."""
        return _Association(self, device, proposal.calling)

    def reception(self, device: Device, source: str) -> Reception:
        """Return where an association's objects go. Raises NotConfigured if the device has no group for them."""
        group = file_systems.storage_group(device)
        with self._lock:
            if self._chooser is None or (self._chooser.device_name, self._chooser.group) != (device.name, group):
                self._chooser = Chooser(device.name, group)
            chooser = self._chooser
        return Reception(device, source, chooser=chooser)


class _Association:
    """The services of one association."""

    def __init__(self, scp: StoreScp, device: Device, calling: str) -> None:
        self._scp = scp
        self._device = device
        self._calling = calling
        #: Made for the first object: C-ECHO is answered also where nothing can be stored.
        self._reception: Reception | None = None
        self._counts: Counter[str] = Counter()
        self._said: set[str] = set()

    def echo(self) -> Status:
        """Answer C-ECHO. Source: PS3.4 Annex A."""
        return Status(status.SUCCESS)

    def store(self, request: StoreRequest) -> Status:
        """Store an object and return the status of its C-STORE-RSP. Source: PS3.4 B.2.3.

        Raises:
            PeerError: the association was lost in the middle of the object; nothing of it is left.
        """
        answer = self._store(request)
        self._counts[f"{answer.code:04X}"] += 1
        return answer

    def answered(self) -> None:
        """Prepare for one more object."""
        if self._reception is not None:
            try:
                self._reception.prepare()
            except Exception:  # noqa: BLE001  it was to save time; what is wrong is told to the object that comes
                _log.exception("not prepared for the next object")

    def close(self) -> None:
        """Tell that no more objects come."""
        if self._reception is not None:
            try:
                self._reception.close()
                if self._counts[f"{status.SUCCESS:04X}"]:
                    self._scp.series_stored(self._device.name)
            except db.OUTAGES as outage:
                # What it would have done is done by housekeeping when the series has been silent for a minute.
                _log.warning("association not closed in the database", error=db.first_line(outage))
            _log.info("objects received", **{f"status_{code}": count for code, count in sorted(self._counts.items())})

    def _store(self, request: StoreRequest) -> Status:
        offered = Offered(request.sop_class_uid, request.sop_uid, request.transfer_syntax_uid, request.chunks)
        try:
            if self._reception is None:
                self._reception = self._scp.reception(self._device, self._calling)
            ending = self._reception.store(offered).ending
        except errors.PeerError:
            raise
        except _NO_PLACE as refused:
            return self._refused(status.OUT_OF_RESOURCES, refused)
        except errors.NotAsAnnounced as refused:
            return self._refused(status.DOES_NOT_MATCH_SOP_CLASS, refused)
        except errors.NotStorable as refused:
            return self._refused(status.CANNOT_UNDERSTAND, refused)
        except Exception:  # noqa: BLE001  # the association stays: the next object may be stored
            _log.exception("object not stored", sop_uid=request.sop_uid)
            return Status(status.PROCESSING_FAILURE, "an error of the archive, see its log")
        if ending is Ending.DIFFERS:
            return Status(status.DUPLICATE_SOP_INSTANCE, "is here already with other bytes, which are kept")
        return Status(status.SUCCESS)

    def _refused(self, code: int, why: Exception) -> Status:
        text = db.first_line(why)
        # A full disk refuses all that follows with the same words.
        if text not in self._said:
            self._said.add(text)
            _log.warning("object refused", status=f"{code:04X}", reason=text)
        return Status(code, text)
