"""`make bench`: every measurement, one after the other, each on a cluster of its own."""

from __future__ import annotations

from benchmarks import (
    deletion_look,
    engine,
    export,
    idle,
    million,
    outage_latency,
    reading,
    receive,
    reschedule_latency,
)

#: Each has a cluster, or a database, of its own.
_ALL = (idle, reschedule_latency, outage_latency, million, reading, engine, receive, export, deletion_look)


def main() -> None:
    """Run all of them."""
    for benchmark in _ALL:
        print(f"\n== {benchmark.__name__.rpartition('.')[2]}: {(benchmark.__doc__ or '').strip().splitlines()[0]}")
        benchmark.main()


if __name__ == "__main__":
    main()
