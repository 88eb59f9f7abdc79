"""How long REST takes to accept an export while the broker is there, is gone, and hangs.

Run: python -m benchmarks.outage_latency [SAMPLES]
"""

from __future__ import annotations

import statistics
import sys
import time

import httpx

from tests.lab.cluster import cluster
from tests.lab.waiting import wait_until

SAMPLES = 100


def main() -> None:
    """Print median and worst of each."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    with cluster() as lab, httpx.Client(trust_env=False) as client:
        _, url = lab.api()
        wait_until(lambda: _answers(client, url), "REST answers")
        _measure("broker there", client, url, number)
        lab.valkey.freeze()
        _measure("broker hangs", client, url, number)
        lab.valkey.thaw()
        lab.valkey.stop()
        _measure("broker gone ", client, url, number)
        lab.valkey.start()


def _measure(what: str, client: httpx.Client, url: str, number: int) -> None:
    taken = []
    for study in range(number):
        began = time.monotonic()
        answer = client.post(f"{url}/aets/ARCHIVE_A/rs/studies/1.2.{time.time_ns()}.{study}/export/Noop")
        taken.append(1000 * (time.monotonic() - began))
        assert answer.status_code == 202, answer.text
    print(f"{what}: 202 after {statistics.median(taken):.1f} ms (median), {max(taken):.1f} ms (worst of {number})")


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/version").status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
