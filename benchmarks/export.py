"""How fast a study is sent: by an EXPORT task of a worker, by Orthanc's job and by dcmtk's storescu, to one storescp.

Of ours both are printed: the run, from its first object to its last, and the task from REST's side, with all that
is around it. Orthanc's and storescu's are whole.
Run: python -m benchmarks.export [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from archive.dicom.peer import Peer
from archive.storage import importing
from benchmarks import objects
from benchmarks.contest import in_turn, report
from tasks import operations
from tasks.state import Status
from tests.lab import evidence, ldif, peers, stored
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.orthanc import Orthanc, orthanc

HERE = "archive-a"
OBJECTS = 500
ROUNDS = 3
REFERENCE = "storescu"

#: Returns seconds by what was measured.
Contender = Callable[[], dict[str, float]]


def main() -> None:
    """Print objects per second, and the ratio to storescu."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"{OBJECTS} objects of one study to `storescp --ignore`, median (least to most) of {rounds} rounds")
    node = Peer("SINK", "127.0.0.1", free_port())
    changes = (*ldif.remote(node.ae_title, node.port), ldif.exporter("Sink", HERE, uri=f"dicom:{node.ae_title}"))
    with ExitStack() as stack:
        lab = stack.enter_context(cluster(*changes))
        lab.ready(lab.worker(HERE))
        other = stack.enter_context(orthanc(node, port=free_port(), rest_port=free_port()))
        stack.enter_context(peers.storescp("--ignore", "+xa", port=node.port, ae_title=node.ae_title))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arcfleet-bench-")))
        for size, side in objects.SIDES.items():
            _measure(_contenders(lab, other, node, folder / size, side), size, rounds)
            stored.forget()
            other.forget()


def _contenders(lab: Lab, other: Orthanc, node: Peer, folder: Path, side: int) -> list[Contender]:
    """Give all of them the same study."""
    (study,) = objects.write([folder], OBJECTS, side)
    importing.import_folder(operations.our_device(HERE), folder, home=lab.home)
    theirs = other.upload(sorted(folder.iterdir()))
    return [
        lambda: _ours(lab, study),
        lambda: {"Orthanc": float(other.send(theirs, node.ae_title)["EffectiveRuntime"])},
        lambda: {REFERENCE: _storescu(node, folder)},
    ]


def _measure(contenders: list[Contender], size: str, rounds: int) -> None:
    seconds: dict[str, list[float]] = {}
    for number in range(rounds):
        for contender in in_turn(contenders, number):
            for name, took_s in contender().items():
                seconds.setdefault(name, []).append(took_s)
    report(size, seconds, objects=OBJECTS, reference=REFERENCE)


def _ours(lab: Lab, study: str) -> dict[str, float]:
    began_ns = time.monotonic_ns()
    (task,) = lab.schedule(device=HERE, exporter="Sink", study_uid=study)
    lab.await_status([task], Status.COMPLETED)
    ended_ns = time.monotonic_ns()
    marks = [mark for mark in evidence.read_trace(lab.trace_file) if mark.task_id == task]
    if sum(mark.what == "end" for mark in marks) != OBJECTS:
        raise SystemExit(f"task {task} has sent {len(marks)} objects, expected {OBJECTS}")
    return {
        "arcfleet, run": (marks[-1].at_ns - marks[0].at_ns) / 1e9,
        "arcfleet, task": (ended_ns - began_ns) / 1e9,
    }


def _storescu(node: Peer, folder: Path) -> float:
    began = time.monotonic()
    said = peers.storescu(node, [folder], "+sd")
    took_s = time.monotonic() - began
    if said.responses() != OBJECTS:
        raise SystemExit(f"storescu has sent {said.responses()} objects, expected {OBJECTS}")
    return took_s


if __name__ == "__main__":
    main()
