"""`make bench`: every measurement, one after the other, each on a cluster of its own."""

from __future__ import annotations

from benchmarks import engine, export, million, outage_latency, reading, receive, reschedule_latency


def main() -> None:
    """Run all of them."""
    for benchmark in (reschedule_latency, outage_latency, million, reading, engine, receive, export):
        print(f"\n== {benchmark.__name__.rpartition('.')[2]}: {(benchmark.__doc__ or '').strip().splitlines()[0]}")
        benchmark.main()


if __name__ == "__main__":
    main()
