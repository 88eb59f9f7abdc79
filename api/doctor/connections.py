"""Whether PostgreSQL has a connection for each process of the cluster when all of them are busy."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text

from api.app import THREADS
from api.console.work import THREADS as FLOWER_THREADS
from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.doctor.nodes import Nodes
from archive import db
from archive.dicom import listening
from config.device import Device
from workers import beat, device_step, dicom
from workers.queues import INTAKE, channel_of

SAY = Subject("database")

#: Connections that should be left for whoever looks what is wrong.
_LEFT = 3

_ROOM = text(
    """
    SELECT current_setting('max_connections')::int AS most,
           current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
           count(*) FILTER (WHERE application_name NOT LIKE 'arcfleet%') AS others, count(*) AS used
    FROM pg_stat_activity WHERE backend_type = 'client backend'
    """
)


def suffice(case: Case) -> Iterator[Finding]:
    """Compare what all processes may have open at once with max_connections, less what is reserved."""
    with db.transaction() as session:
        room = session.execute(_ROOM).one()
        nodes = Nodes.read(session)
    ours = {device.name: _of(device, nodes) for device in case.known.ours.values() if device.installed}
    wanted = ours | {
        "beat": beat.CONNECTIONS,
        "REST": THREADS,
        "Flower": FLOWER_THREADS,
        "intake": max(1, len(nodes.of(INTAKE))) * device_step.NODE_CONNECTIONS,
        "other programs": int(room.others),
    }
    possible, available = sum(wanted.values()), room.most - room.reserved
    parts = ", ".join(f"{name} {number}" for name, number in wanted.items() if number)
    found = f"{possible} possible ({parts}), {available} of {room.most} are not reserved"
    do = f"max_connections = {possible + room.reserved} in postgresql.conf, or fewer slots (dcmMaxTasksParallel)"
    if possible > available:
        yield SAY.error("connections", found, f"max_connections of at least {possible + room.reserved}", do)
    else:
        yield SAY.ok("connections", found)
    if room.used > available - _LEFT:
        found = f"{room.used} of {available} in use"
        yield SAY.warning("connections in use", found, f"at most {available - _LEFT}", "see pg_stat_activity")


def _of(device: Device, nodes: Nodes) -> int:
    """Return the connections of a device's workers, as they run or as they would, and of its DICOM service."""
    here = 0
    for housekeeping in (False, True):
        alive = nodes.of(channel_of(device.name, housekeeping=housekeeping))
        pools = [row.concurrency for row in alive] or [_pool(device, housekeeping=housekeeping)]
        here += sum(device_step.NODE_CONNECTIONS + pool * device_step.RUN_CONNECTIONS for pool in pools)
    if listening.of(device, offset=0):
        here += dicom.PARENT_CONNECTIONS + dicom.processes_by_default() * dicom.PROCESS_CONNECTIONS
    return here


def _pool(device: Device, *, housekeeping: bool) -> int:
    if housekeeping:
        return device_step.housekeeping_processes(device)
    return device_step.processes(device, device_step.MOST_PROCESSES)
