"""The chaos of `make chaos` on a smaller scale: workers killed and the broker failing, all at once."""

from __future__ import annotations

from tests.lab import ldif
from tests.lab.cluster import cluster
from tests.lab.storm import Storm


def test_all_tasks_complete_once_while_workers_are_killed_and_the_broker_fails() -> None:
    """120 tasks arrive in 8 shares, one before each kill, so that the load lasts as long as the kills do."""
    with cluster(
        ldif.device(arcTaskLease="PT3S"),
        ldif.queue("Export", arcTaskMaxLostLeases="50"),
        ldif.exporter("Noop", uri="noop:", duration=0.01, operations=2),
    ) as lab:
        lab.beat()
        workers = [lab.worker(device, concurrency=1) for _ in range(2) for device in ("archive-a", "archive-b")]
        storm = Storm(lab, workers, tasks=120, kills=8)

        storm.rage({1: "flush", 3: "stop", 4: "start", 6: "freeze", 7: "thaw"})

        storm.calm()
