"""The demonstration from its first step to its last, and how it ends whatever happens."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from api.demo import deleting, moving, opening, pacs, receiving, remote, stopping
from api.demo.calls import Rest
from api.demo.cluster import Up
from api.demo.house import FIRST, SECOND, House
from api.demo.report import Report, StepFailed
from api.demo.stage import Stage
from archive import db
from archive.dicom.peer import Peer
from archive.errors import ArchiveError
from config.errors import ConfigError
from tasks.errors import TaskError
from workers.embedded.errors import EmbeddedError

STEPS: tuple[tuple[str, Callable[[Stage], str]], ...] = (
    ("servers, workers, DICOM services, beat and REST come up", opening.start),
    (f"studies arrive at {FIRST} by C-STORE", receiving.receive),
    ("exports to an AE that is down fail", moving.fail),
    (f"the AE is started, the FAILED ones move to {SECOND}", moving.move),
    (f"the worker of {SECOND} is killed in a long export", stopping.kill_worker),
    ("a task is run again where it was", moving.run_again),
    ("a running export is cancelled", stopping.cancel),
    ("a study is copied, and deleted from the online disk", deleting.delete),
    ("what must not be is refused by name", deleting.refuse),
    ("everything ends", opening.stop),
)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAILURES = (ConfigError, ArchiveError, TaskError, EmbeddedError, SQLAlchemyError, OSError)


def tell(house: House, console: Console) -> None:
    """Run all steps; whatever happens, no process is left.

    Raises:
        StepFailed: names the step, what was wrong in it, and where the logs are.
        KeyboardInterrupt: somebody has asked for the end.
    """
    report = Report(console)
    with _interruptible() as ignore:
        stage = None
        is_over = False
        try:
            stage = _prepare(house, report)
            _run(stage)
            is_over = True
        except KeyboardInterrupt:
            is_over = True
            report.say("interrupted: everything is ended")
            raise
        finally:
            ignore()
            db.use(None)
            if stage is not None:
                stage.rest.close()
                stage.remote.stop()
                stage.up.stop()
            house.leave(failed=not is_over)
    where = f"home {house.home} is kept" if house.is_kept else f"home {house.home} is removed"
    report.say(f"All {len(STEPS)} steps were verified in the database and on disk; {where}.")


def _prepare(house: House, report: Report) -> Stage:
    cluster = house.configure(remote.free_port())
    rows = [(o.entry, ", ".join(o.devices), o.attribute, o.sample, o.here) for o in house.differences()]
    report.say(f"home {house.home}")
    report.table("Configuration: the shipped sample, but", ("entry", "of", "attribute", "sample", "here"), rows)
    up = Up(house.home, cluster)
    (connection,) = cluster.devices["pacs"].connections.values()
    peer = Peer(pacs.TITLE, connection.hostname, connection.port or 0)
    there = remote.Remote(peer, house.pacs, house.logs / "pacs.log")
    report.say(f"ports: those of the sample + {up.offset}; exports go to {peer}, and to {house.exports}")
    return Stage(house, up, there, report, Rest(up.urls, report))


def _run(stage: Stage) -> None:
    report = stage.report
    try:
        for title, act in STEPS:
            with report.step(title) as step:
                step.summary = act(stage)
    except _FAILURES as error:
        report.steps[-1].summary = "see below"
        number, title = len(report.steps), report.steps[-1].title
        # Without its servers anything may be the first to fail.
        reason = stage.up.ending or db.first_line(error)
        raise StepFailed(f"step {number} ({title}) failed: {reason}; logs: {stage.house.logs}") from error
    finally:
        report.finish()


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Turn the signals that ask for the end into KeyboardInterrupt, until the yielded function is called."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        ignore()
        raise KeyboardInterrupt

    def ignore() -> None:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield ignore
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
