"""What was copied is cleared from the online disk by itself; what was not stays; who cannot reach it is told so."""

from __future__ import annotations

from pathlib import Path

from api.demo import evidence
from api.demo.house import FIRST, SECOND
from api.demo.stage import Stage
from config.device import FileSystemGroup
from tasks.state import Status

ONLINE, NEARLINE = "ONLINE_STORAGE", "NEARLINE_STORAGE"
#: Exporter of the sample cluster that copies to the nearline file systems.
_TO_NEARLINE = "Nearline"
_DELETED_S = 60.0


def delete(stage: Stage) -> str:
    """Copy one study to the nearline disk, and wait until beat has cleared it from the online one."""
    chosen = max(stage.studies, key=lambda uid: len(evidence.files(uid, ONLINE)))
    before = evidence.files(chosen, ONLINE)
    others = {
        path for uid in [*stage.studies, stage.long_study] if uid != chosen for path in evidence.files(uid, ONLINE)
    }
    content = {path: evidence.digest(path) for path in before}
    stage.report.holds(
        f"{len(before)} objects of study {chosen} are on the online disk only",
        bool(before) and not evidence.files(chosen, NEARLINE) and all(path.is_file() for path in before),
    )
    task_id = stage.export(FIRST, chosen, _TO_NEARLINE)
    stage.wait_for([task_id], Status.COMPLETED, timeout_s=30)
    copies = evidence.files(chosen, NEARLINE)
    stage.report.equal("copies on the nearline disk", len(copies), len(before))
    stage.report.equal(
        "of these with the same SHA-256", sorted(map(evidence.digest, copies)) == sorted(content.values()), True
    )
    took_s = stage.wait("beat to have the study deleted", lambda: _is_gone(before), timeout_s=_DELETED_S)
    stage.wait("its task to end", lambda: evidence.deletions(chosen, Status.COMPLETED) == 1, timeout_s=30)
    stage.report.equal("files of it in the index of the online disk", len(evidence.files(chosen, ONLINE)), 0)
    stage.report.holds(f"its {len(before)} files left the online disk {took_s:.1f} s after the copy", _is_gone(before))
    stage.report.equal("copies still whole", sum(map(Path.is_file, copies)), len(before))
    return f"{len(before)} files deleted; {_kept(stage, others)}"


def refuse(stage: Stage) -> str:
    """Ask for what must not be: to delete a study that has no copy, and to export where the disk is not mounted."""
    gone = next(uid for uid in stage.studies if not evidence.files(uid, ONLINE))
    kept = next(uid for uid in stage.studies if evidence.files(uid, ONLINE))
    files = evidence.files(kept, ONLINE)
    query = f"studyUID={kept}"
    told = stage.rest.call(FIRST, f"POST /fs/{FIRST}/{ONLINE}/scheduleStudyForDeletion?{query}", 409, quietly=True)
    stage.report.holds(f"refused: {told['errorMessage']}", kept in told["errorMessage"])
    stage.report.equal("files of that study on the disk", sum(map(Path.is_file, files)), len(files))

    task_id = stage.export(FIRST, gone)
    path = f"POST /monitor/export/{task_id}/reschedule?newDeviceName={SECOND}"
    told = stage.rest.call(FIRST, path, 409, quietly=True)
    text = told["errorMessage"]
    place = str(stage.house.home / _only_folder(stage.up.cluster.devices[FIRST].file_system_groups[NEARLINE]))
    stage.report.holds(f"refused: {text}", all(word in text for word in (gone, SECOND, place)))
    (done,) = stage.wait_for([task_id], Status.COMPLETED, timeout_s=30)
    stage.report.equal("the task stayed and was COMPLETED on", done.device, FIRST)
    stage.expect_arrived([gone], FIRST)
    return "the last copy stays, and an unreachable disk is named"


def _is_gone(paths: list[Path]) -> bool:
    return not any(path.exists() for path in paths)


def _kept(stage: Stage, others: set[Path]) -> str:
    """Verify that nothing else was touched."""
    root = stage.house.home / _only_folder(stage.up.cluster.devices[FIRST].file_system_groups[ONLINE])
    stage.report.equal("files of all other studies on the online disk", sum(map(Path.is_file, others)), len(others))
    stage.report.equal("files there that no row names", evidence.on_disk(root) - len(others), 0)
    said = evidence.last_result(FIRST, ONLINE, "schedule_deletions")
    stage.report.say(f"beat's last look at {ONLINE}: {said}")
    return f"{len(others)} of studies without a copy kept"


def _only_folder(group: FileSystemGroup) -> str:
    (only,) = group.file_systems
    return only.path
