"""What follows when series were stored: the group's look for studies that may be deleted, if it wants that."""

from __future__ import annotations

from datetime import timedelta

from archive import configuration, db
from tasks import jobs

#: The job that looks for studies that may be deleted.
SCHEDULE_DELETIONS = "schedule_deletions"

#: So long after a look there is no other one, however many series are stored.
_PAUSE = timedelta(seconds=10)


def series_stored(device_name: str) -> None:
    """Let beat look for studies to delete soon on this device: at least one of its series was stored.

    To be called behind the transaction that stored them; costs nothing where no group wants it.
    """
    device = configuration.current().devices.get(device_name)
    groups = [] if device is None else device.file_system_groups.values()
    wanting = [group.id for group in groups if group.schedule_on_series_stored]
    if wanting:
        with db.transaction() as session:
            jobs.wake(session, device_name, wanting, SCHEDULE_DELETIONS, _PAUSE)
