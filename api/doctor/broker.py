"""The broker: whether it answers, keeps what it is given, and whether messages pile up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.doctor.nodes import Nodes
from api.doctor.secrets import shown
from api.words import size
from archive import db
from config.device import Device
from config.errors import ConfigError
from tasks.control import WorkerNode
from workers.app import make_app
from workers.broker import Broker, BrokerError
from workers.queues import INTAKE, channel_of

SAY = Subject("broker")

#: The oldest Redis that kombu speaks to; Valkey tells this number too.
_OLDEST_REDIS = (6, 2)
#: Share of maxmemory above which it is nearly full.
_NEARLY_FULL = 0.9
#: Messages of a channel above the number of its slots: those of canceled tasks stay until a worker takes them.
_SPARE_MESSAGES = 50
#: Jobs of other services that may wait for intake.
_MOST_INTAKE = 1000


def answers(case: Case) -> Iterator[Finding]:
    """Ask the broker what it is, and how it keeps messages."""
    try:
        url = case.given.broker()
    except ConfigError:
        return  # `home.runs` has said so
    try:
        told = _ask_what_it_is()
    except BrokerError as error:
        do = "start it, or mend ARCFLEET_BROKER_URL; tasks wait meanwhile, and none is lost"
        yield SAY.error("connection", f"{shown(url)}: {error}", "an answer", do)
        return
    case.has_broker = True
    yield SAY.ok("connection", shown(url))
    if "redis_version" in told:
        yield from _redis(told, case)
    else:
        product, version = (_text(told.get(name)) or "unknown" for name in ("product", "version"))
        yield SAY.ok("version", f"{product} {version}")


def channels(case: Case) -> Iterator[Finding]:
    """Look for messages that pile up, or that nobody takes."""
    if not case.has_broker:
        return
    with db.transaction() as session:
        nodes = Nodes.read(session)
        ever = set(session.scalars(select(WorkerNode.channel).distinct()))
    ours = {device.name: device for device in case.devices()}
    known = {
        channel_of(name, housekeeping=housekeeping): device
        for name, device in ours.items()
        for housekeeping in (False, True)
    }
    old = ever - known.keys() - {channel for channel in ever if case.wishes.device is not None}
    broker = Broker(make_app())
    try:
        depths = {channel: broker.depth(channel) for channel in sorted({*known, *old, INTAKE})}
    except BrokerError as error:
        yield SAY.error("channels", f"the broker went away: {error}", "an answer")
        return
    finally:
        broker.close()
    piled = [*_piled(depths, known, nodes)]
    yield from piled
    if not piled:
        yield SAY.ok("channels", f"{sum(depths.values())} messages in {len(known)} channels")


def _piled(depths: Mapping[str, int], known: Mapping[str, Device], nodes: Nodes) -> Iterator[Finding]:
    for channel, depth in depths.items():
        if not depth:
            continue
        found, device = f"{depth} messages", known.get(channel)
        name = None if device is None else device.name
        if not nodes.of(channel):
            do = "arcfleet intake" if channel == INTAKE else f"arcfleet worker --device {name or channel}"
            yield SAY.warning(f"channel {channel}", f"{found}, and no worker takes them", "a worker", do, device=name)
        elif depth > (most := _most(device)):
            do = "see whether its workers are busy or stuck: arcfleet task list --status 'IN PROCESS'"
            yield SAY.warning(f"channel {channel}", found, f"at most about {most}", do, device=name)


def _most(device: Device | None) -> int:
    if device is None:
        return _MOST_INTAKE
    return sum(queue.max_tasks_parallel for queue in device.queues.values()) + _SPARE_MESSAGES


def _redis(told: Mapping[str, Any], case: Case) -> Iterator[Finding]:
    """Judge what `INFO` says; `CONFIG GET` is often forbidden."""
    name = "Valkey" if told.get("server_name") == "valkey" else "Redis"
    version = str(told.get("valkey_version") or told["redis_version"])
    spoken = tuple(int(part) for part in str(told["redis_version"]).split(".")[:2])
    if spoken < _OLDEST_REDIS:
        yield SAY.error("version", f"{name} {version}", "Redis 6.2 or newer", "update it")
    else:
        yield SAY.ok("version", f"{name} {version}")
    if told.get("role") == "slave":
        yield SAY.error("role", "a replica, which takes no messages", "a primary", "mend ARCFLEET_BROKER_URL")
    policy = str(told.get("maxmemory_policy"))
    if policy == "noeviction":
        yield SAY.ok("maxmemory-policy", policy)
    else:
        found = f"{policy}: it throws messages away when memory runs short"
        yield SAY.error("maxmemory-policy", found, "noeviction", "CONFIG SET maxmemory-policy noeviction")
    most, used = int(told.get("maxmemory") or 0), int(told.get("used_memory") or 0)
    if most and used > most * _NEARLY_FULL:
        found = f"{size(used)} of {size(most)} in use"
        yield SAY.warning("memory", found, f"at most {_NEARLY_FULL:.0%}", "raise maxmemory, or see what fills it")
    yield from _persistence(told, case)


def _persistence(told: Mapping[str, Any], case: Case) -> Iterator[Finding]:
    if told.get("aof_enabled"):
        if told.get("aof_last_write_status") == "ok":
            yield SAY.ok("appendonly", "yes")
        else:
            found = f"yes, but its last write was {told.get('aof_last_write_status')}"
            yield SAY.error("appendonly", found, "ok", "see its log and its disk")
        return
    do = "CONFIG SET appendonly yes, and the same in its configuration file"
    if case.has_schema and _takes_jobs():
        found = "no: a restart loses jobs of other services that wait for intake"
        yield SAY.warning("appendonly", found, "yes", do)
    else:
        yield SAY.note("appendonly", "no: after a restart messages are sent again, no task is lost", "yes", do)


def _takes_jobs() -> bool:
    """Tell whether other services send jobs here: their message is the only copy until intake has taken it."""
    with db.transaction() as session:
        if session.scalar(select(WorkerNode.id).where(WorkerNode.channel == INTAKE).limit(1)) is not None:
            return True
    broker = Broker(make_app())
    try:
        return broker.depth(INTAKE) > 0
    except BrokerError:
        return False
    finally:
        broker.close()


def _ask_what_it_is() -> Mapping[str, Any]:
    broker = Broker(make_app())
    try:
        return broker.ask(_told)
    finally:
        broker.close()


def _told(channel: Any) -> Mapping[str, Any]:
    client = getattr(channel, "client", None)
    found: Mapping[str, Any] = channel.connection.server_properties if client is None else client.info()
    return found


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
