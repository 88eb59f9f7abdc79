"""`/metrics` for Prometheus, computed from the database at each scrape, so that every API process says the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from api.answers import Route
from api.rest import documents
from api.security import Reader
from archive import db
from tasks.control import DEAD_AFTER

router = APIRouter(tags=["metrics"], route_class=Route)

#: Upper bounds of the dispatch latency in seconds.
_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_TASKS = text("SELECT device, queue, kind, status, count(*) FROM task GROUP BY device, queue, kind, status")

_WAITING = text(
    """
    SELECT device, queue, extract(epoch FROM clock_timestamp() - min(scheduled_time)) FROM task
    WHERE status IN ('SCHEDULED', 'SCHEDULED FOR RETRY') AND scheduled_time <= clock_timestamp()
    GROUP BY device, queue
    """
)

_WORKERS = text(
    """
    SELECT device, channel, count(*) FILTER (WHERE seen_at > clock_timestamp() - :dead_after) FROM worker_node
    WHERE stopped_at IS NULL GROUP BY device, channel
    """
)

_LOST = text(
    """
    SELECT device, queue, count(*) FROM run
    WHERE ended_at > clock_timestamp() - interval '1 hour' AND ending = 'lost' GROUP BY device, queue
    """
)

_RUNNING = text("SELECT device, queue, count(*) FROM run WHERE ended_at IS NULL GROUP BY device, queue")

_ALARMS = text("SELECT name, device, count(*) FROM alarm GROUP BY name, device")

_DISPATCHED = text(
    """
    SELECT device, width_bucket(least(s, 1e6), CAST(:bounds AS double precision[])) AS bucket, count(*), sum(s) FROM (
        SELECT device, extract(epoch FROM claimed_at - reserved_at)::double precision AS s FROM run
        WHERE ended_at > clock_timestamp() - interval '1 hour' AND claimed_at IS NOT NULL) AS run
    GROUP BY 1, 2
    """
)


class FromDatabase(Collector):
    """Reads all figures in one transaction."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        with db.transaction() as session:
            found = [*_figures(session), _dispatched(session)]
        yield from found

    def describe(self) -> list[Metric]:
        """Return nothing: names need no database at registration."""
        return []


def _figures(session: Session) -> Iterator[Metric]:
    at_queue = ["device", "queue"]
    plain: tuple[tuple[str, str, list[str], TextClause, dict[str, Any]], ...] = (
        ("arcfleet_tasks", "Tasks", [*at_queue, "kind", "status"], _TASKS, {}),
        ("arcfleet_oldest_waiting_seconds", "Age of the longest due task that waits", at_queue, _WAITING, {}),
        ("arcfleet_runs_open", "Runs that have not ended: slots in use", at_queue, _RUNNING, {}),
        ("arcfleet_leases_lost_last_hour", "Runs whose lease ended, in the last hour", at_queue, _LOST, {}),
        ("arcfleet_workers_alive", "Worker nodes that were seen a moment ago", ["device", "channel"], _WORKERS,
         {"dead_after": DEAD_AFTER}),
        ("arcfleet_alarms", "Alarms that stand", ["name", "device"], _ALARMS, {}),
    )  # fmt: skip
    for name, documentation, labels, statement, parameters in plain:
        family = GaugeMetricFamily(name, documentation, labels=labels)
        for row in session.execute(statement, parameters):
            family.add_metric([str(value) for value in row[:-1]], float(row[-1]))
        yield family


def _dispatched(session: Session) -> Metric:
    family = GaugeHistogramMetricFamily(
        "arcfleet_dispatch_seconds",
        "Time from the reservation of a slot to the start of the run, of runs that ended in the last hour",
        labels=["device"],
    )
    counts: dict[str, list[int]] = {}
    sums: dict[str, float] = {}
    for device, bucket, number, seconds in session.execute(_DISPATCHED, {"bounds": list(_BOUNDS)}):
        counts.setdefault(device, [0] * (len(_BOUNDS) + 1))[bucket] += number
        sums[device] = sums.get(device, 0.0) + float(seconds)
    for device, numbers in sorted(counts.items()):
        total, buckets = 0, []
        for bound, number in zip([*map(str, _BOUNDS), "+Inf"], numbers, strict=True):
            total += number
            buckets.append((bound, float(total)))
        family.add_metric([device], buckets, sums[device])
    return family


REGISTRY = CollectorRegistry()
REGISTRY.register(FromDatabase())
ProcessCollector(registry=REGISTRY)


@router.get("/metrics", operation_id="metrics", **documents.of(also=("text/plain",)))
def metrics(_caller: Reader) -> Response:
    """Return figures for Prometheus."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
