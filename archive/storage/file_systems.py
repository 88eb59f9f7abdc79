"""Which file systems a device has: made from its configuration; `choosing` says which takes new objects."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from archive import errors, model
from archive.storage import answers, health
from archive.storage.answers import Sort
from config import device as config_device

#: Advisory lock of all changes to the list of file systems; few, and paths are unique over all devices.
_LOCK = 0x6172_6366_0001

#: The group that received objects go to where a device has it. Source: manual of dcm4chee 2.
ONLINE_STORAGE = "ONLINE_STORAGE"


def ensure(session: Session, device: config_device.Device, home: Path) -> list[model.FileSystem]:
    """Make the file systems of a device's configured groups that are missing, with folder and marker.

    Changes `shared_with` of those that are there to what is configured. A folder that vanished from below
    a known file system is not made again: its disk is not mounted.

    Raises:
        StorageError: a folder cannot be made, or belongs to another device, group or archive.
    """
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    made = []
    for group in device.file_system_groups.values():
        for configured in group.file_systems:
            path = root_of(configured, home)
            known = session.scalar(select(model.FileSystem).where(model.FileSystem.path == str(path)))
            if known is None:
                known = _add(session, device.name, group, path)
            elif (known.owner_device, known.group_id) != (device.name, group.id):
                raise errors.StorageError(
                    f"File system {path} is configured for group {group.id} of device {device.name}, "
                    f"but belongs to group {known.group_id} of device {known.owner_device}"
                )
            known.shared_with = sorted(set(configured.shared_with) - {device.name})
            made.append(known)
    session.flush()
    return made


def root_of(configured: config_device.FileSystem, home: Path) -> Path:
    """Return the folder of a configured file system; a relative one lies in the home."""
    return Path(os.path.abspath(home / configured.path))  # noqa: PTH100  resolve() would follow links


def storage_group(device: config_device.Device) -> config_device.FileSystemGroup:
    """Return the group that received objects go to: ONLINE_STORAGE, else the first one that is ONLINE.

    Raises:
        NotConfigured: the device has no such group.
    """
    groups = device.file_system_groups
    if ONLINE_STORAGE in groups:
        return groups[ONLINE_STORAGE]
    for group in groups.values():
        if group.default_availability == model.Availability.ONLINE:
            return group
    raise errors.NotConfigured(
        f"Device {device.name} has no file-system group {ONLINE_STORAGE} and none that is ONLINE; "
        f"it has: {', '.join(groups) or 'none'}"
    )


def reachable_by(file_system: model.FileSystem, device_name: str) -> bool:
    """Tell whether a device mounts a file system: as its owner, or because it is shared with it."""
    return device_name == file_system.owner_device or device_name in file_system.shared_with


def _add(session: Session, device_name: str, group: config_device.FileSystemGroup, path: Path) -> model.FileSystem:
    """Make folder, marker and row, and put the row at the end of the group's chain."""
    marker = _mark(session, path, device_name, group.id)
    siblings = session.scalars(
        select(model.FileSystem)
        .where(model.FileSystem.owner_device == device_name, model.FileSystem.group_id == group.id)
        .order_by(model.FileSystem.id)
    ).all()
    has_current = any(row.status == model.FileSystemStatus.CURRENT for row in siblings)
    added = model.FileSystem(
        path=str(path),
        owner_device=device_name,
        group_id=group.id,
        status=model.FileSystemStatus.WRITABLE if has_current else model.FileSystemStatus.CURRENT,
        availability=model.Availability(group.default_availability),
        retrieve_ae_title=group.default_retrieve_ae_title,
        marker=marker.uuid,
        shared_with=[],
    )
    session.add(added)
    session.flush()
    if siblings:
        last = _end_of_chain(siblings)
        added.next_id, last.next_id = last.next_id, added.id
        session.flush()
    return added


def _mark(session: Session, path: Path, device_name: str, group_id: str) -> health.Marker:
    """Make the folder and its marker; take over one that a run before left when it died before its commit."""
    # The list of file systems is locked meanwhile.
    found = answers.ask(path, lambda: _made(path), Sort.WRITE)
    if found is None:
        found = health.Marker(uuid.uuid4(), group_id, device_name)
        new = found
        answers.ask(path, lambda: health.write_marker(path, new), Sort.WRITE)
        return found
    if (found.device, found.group) != (device_name, group_id):
        raise errors.StorageError(
            f"File system {path}: its {health.MARKER} is of group {found.group} of device {found.device}, "
            f"expected group {group_id} of device {device_name}"
        )
    elsewhere = session.scalar(select(model.FileSystem.path).where(model.FileSystem.marker == found.uuid))
    if elsewhere is not None:
        raise errors.StorageError(f"File system {path}: its {health.MARKER} is that of {elsewhere}, a copy of it")
    return found


def _made(path: Path) -> health.Marker | None:
    """Make a folder; return the marker that is in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise errors.StorageError(f"File system {path}: the folder cannot be made: {exc.strerror}") from exc
    problem = health.mount_problem_of(path)
    if problem is not None:
        raise errors.StorageError(problem)
    return health.read_marker(path)


def _end_of_chain(siblings: Sequence[model.FileSystem]) -> model.FileSystem:
    """Follow the links from the oldest one to the last before the end, or before a ring closes."""
    by_id = {row.id: row for row in siblings}
    last, seen = siblings[0], {siblings[0].id}
    while last.next_id in by_id and last.next_id not in seen:
        last = by_id[last.next_id]
        seen.add(last.id)
    return last
