"""The configuration: whether it can be read, what is wrong in it, and whether all machines have the same."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from api.doctor.case import Case, NoSuchDevice
from api.doctor.finding import Finding, Subject
from api.words import some
from archive import configuration, db
from archive.configuration import ConfigSnapshot
from config import checks, entries
from config.device import Cluster
from config.entries import Reading, Severity
from config.errors import ConfigError
from config.source import FILE_IN_HOME, open_source

SAY = Subject("configuration")

_CHECK = "`arcfleet config check` shows it with its entry, `arcfleet config set` changes it"


def readable(case: Case) -> Iterator[Finding]:
    """Read the configuration as processes do, from its source or as it last was good; say what is wrong in it."""
    given = case.given
    if given.config_url is None and not (given.home / FILE_IN_HOME).exists():
        # To open the source would make the file.
        _use(case, _last_good(case))
        found = f"{given.home / FILE_IN_HOME} is not there yet"
        yield SAY.note("source", found, do="`arcfleet up` makes it from the sample")
        return
    try:
        origin = open_source(given.config_url, given.home)
        held = origin.entries()
    except ConfigError as error:
        _use(case, _last_good(case))
        kept = "processes go on with the last good one" if case.cluster is not None else "no good one was kept"
        yield SAY.error("source", f"{error}; {kept}", "a source that can be read", "mend or restore it")
        return
    reading = entries.read(held, given.devices, given.cluster)
    case.entries = held
    _use(case, configuration.in_force(reading, _last_good(case)))
    yield SAY.ok("source", f"{origin.url}: {len(reading.cluster.devices)} devices, {len(reading.cluster.ours)} of ours")
    yield from _wrong(reading)


def same_everywhere(case: Case) -> Iterator[Finding]:
    """Compare the configuration of this machine with the one that came into use last."""
    if case.entries is None:
        return
    with db.transaction() as session:
        newest = session.scalars(select(ConfigSnapshot).order_by(ConfigSnapshot.id.desc()).limit(1)).first()
    if newest is None:
        yield SAY.note("in use", "no process has read it yet")
    elif newest.sha256 == configuration.digest(case.entries):
        yield SAY.ok("in use", f"as here, since {newest.loaded_at:%Y-%m-%d %H:%M:%S %Z}")
    else:
        found = f"another one is in use since {newest.loaded_at:%Y-%m-%d %H:%M:%S %Z}, from {newest.source_url}"
        do = "give all machines the same file; one with a refused value comes into use when it is mended"
        yield SAY.warning("in use", found, "that of this machine", do)


def zones(case: Case) -> Iterator[Finding]:
    """Name devices whose processing windows each machine may understand in a time zone of its own."""
    for device in case.devices():
        windows = [queue.name for queue in device.queues.values() if queue.schedules]
        if windows and device.time_zone is None:
            found = f"windows of {some(windows)} are those of each machine's zone, here {case.given.timezone}"
            do = "dcmTimeZoneOfDevice, or the same ARCFLEET_TIMEZONE on all machines"
            yield SAY.note(f"time zone of {device.name}", found, do=do, device=device.name)


def _wrong(reading: Reading) -> Iterator[Finding]:
    """Say what `config check` says; what is only not acted on is counted."""
    idle = 0
    for one in checks.check(reading):
        if one.severity is Severity.INFO:
            idle += 1
            continue
        say = SAY.error if one.severity is Severity.ERROR else SAY.warning
        # What follows cn=Devices is the same for all.
        entry = one.dn.partition(",cn=")[0]
        named = one.attribute if one.value is None else f"{one.attribute}={one.value}"
        yield say(f"{named} of {entry}" if named else entry, one.message, "", _CHECK, device=one.device)
    if idle:
        found = f"{idle} attributes or entries that this version does not act on"
        yield SAY.note("not used", found, do="`arcfleet config check` lists them")
    if not reading.cluster.ours:
        found = f"none of {some(sorted(reading.cluster.devices)) or 'no devices'} is run by arcfleet"
        do = "give an entry the class arcDevice, or name devices in ARCFLEET_DEVICES"
        yield SAY.error("devices", found, "at least one", do)


def _last_good(case: Case) -> Cluster | None:
    return configuration.last_good() if case.has_schema else None


def _use(case: Case, cluster: Cluster | None) -> None:
    """Let all that is asked from now on go by this configuration, which is not looked at again."""
    case.cluster = cluster
    if cluster is None:
        return
    configuration.use(cluster)
    wanted = case.wishes.device
    if wanted is not None and (wanted not in cluster.devices or not cluster.devices[wanted].is_ours):
        raise NoSuchDevice(f"Device {wanted!r} in --device: expected one of {', '.join(cluster.ours) or 'none'}")
