"""What a cluster of two devices costs while nothing is to be done: processor, statements, memory.

Run: python -m benchmarks.idle [SECONDS]
For the memory in an environment with the packages of requirements.lock and arcfleet alone: pydicom loads requests where
it finds it, which comes with what the tests need, and takes 4 MB of each process that shares nothing.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import house
from benchmarks.house import House
from config import source
from tasks.registry import kind_of
from workers.embedded import child

SECONDS = 60
#: What starts needs a while to come to rest; whoever has work for twice a minute has then done it once.
SETTLE_S = 35

#: Of all processes of ours together, in percent of one core.
MOST_CPU = 2.0
#: Per second, of the whole cluster, BEGIN and COMMIT included.
MOST_STATEMENTS = 10.0
#: Of one device with four slots: worker, housekeeping and DICOM service.
MOST_MEMORY_MB = 600.0

#: Without their queues a device of the sample has the four slots of Export.
_OTHER_KINDS = ("RETRIEVE", "DIFF", "STGVER")
_SERVERS = ("postgres", "valkey-server")
_STATEMENT = re.compile(r"^\[(.*?)\] (?:[A-Z]+): {2}(?:statement|execute [^:]+): (.*(?:\n\t.*)*)", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process of ours."""

    pid: int
    command: str
    device: str | None


def main() -> None:
    """Print each number beside its limit."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with house.running(configuration=_with_four_slots(source.sample().decode())) as cluster:
        time.sleep(SETTLE_S)
        _log_statements(cluster)
        ours = _processes(cluster)
        log = cluster.home / "logs" / "postgres.log"
        read_from, before, began = log.stat().st_size, _used(ours), time.monotonic()
        time.sleep(seconds)
        taken = time.monotonic() - began
        after = _used(ours)
        with log.open() as file:
            file.seek(read_from)
            statements = [(name, text) for name, text in _STATEMENT.findall(file.read())]
        _report_cpu(ours, {pid: after[pid] - before[pid] for pid in after if pid in before}, taken)
        _report_statements(statements, taken)
        _report_memory(ours)


def _with_four_slots(sample: str) -> str:
    others = [f"\ndn: dcmQueueName={kind_of(kind).queue}," for kind in _OTHER_KINDS]
    entries = sample.split("\n\n")
    return "\n\n".join(entry for entry in entries if not any(other in f"\n{entry}" for other in others))


def _log_statements(cluster: House) -> None:
    with psycopg.connect(cluster.database_url(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET log_line_prefix = '[%a] '")
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
    time.sleep(2)


def _processes(cluster: House) -> list[Process]:
    up = cluster.process.pid
    found = []
    for pid in [up, *child.descendants(up)]:
        folder = Path("/proc", str(pid))
        try:
            name = (folder / "comm").read_text().strip()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if name not in _SERVERS and not any(f"/{server} " in f"{command} " for server in _SERVERS):
            found.append(Process(pid, command, _device(pid)))
    return found


def _device(pid: int) -> str | None:
    """Return whose process it is: of a device all processes descend from one that names it."""
    while pid > 1:
        arguments = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
        if b"--device" in arguments:
            return arguments[arguments.index(b"--device") + 1].decode()
        pid = int(child.stat_fields(pid)[1])
    return None


def _used(processes: list[Process]) -> dict[int, float]:
    """Return the seconds of processor that each has used."""
    found = {}
    for one in processes:
        if fields := child.stat_fields(one.pid):
            found[one.pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def _report_cpu(ours: list[Process], used: dict[int, float], seconds: float) -> None:
    percent = {one: 100 * used.get(one.pid, 0.0) / seconds for one in ours}
    print(f"processor: {sum(percent.values()):.2f} % of one core, limit {MOST_CPU} %")
    for one, share in sorted(percent.items(), key=lambda pair: -pair[1]):
        if share > 0:
            print(f"  {share:5.2f} %  {one.device or '':9}  {_short(one)}")


def _report_statements(statements: list[tuple[str, str]], seconds: float) -> None:
    print(f"statements: {len(statements) / seconds:.2f} per second, limit {MOST_STATEMENTS}")
    counted = Counter((name, " ".join(text.split())[:90]) for name, text in statements)
    for (name, text), number in counted.most_common(40):
        print(f"  {number / seconds:5.2f}  {name:20} {text}")


def _report_memory(ours: list[Process]) -> None:
    held = {one: _pss_mb(one.pid) for one in ours}
    for device in sorted({one.device for one in ours if one.device}):
        of_it = {one: mb for one, mb in held.items() if one.device == device}
        print(f"memory of {device}: {sum(of_it.values()):.0f} MB (PSS), limit {MOST_MEMORY_MB:.0f} MB")
        for one, mb in sorted(of_it.items(), key=lambda pair: -pair[1]):
            print(f"  {mb:5.0f} MB  {_short(one)}")
    rest = {one: mb for one, mb in held.items() if one.device is None}
    print(f"memory of the rest: {sum(rest.values()):.0f} MB")
    for one, mb in rest.items():
        print(f"  {mb:5.0f} MB  {_short(one)}")


def _pss_mb(pid: int) -> float:
    for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _short(one: Process) -> str:
    return re.sub(r"\S*/(?=[^/ ]+( |$))", "", one.command)[:110]


if __name__ == "__main__":
    main()
