"""Pure: how long to wait before the next attempt. Source: dcmQueue, dcm4chee-arc-light."""

from __future__ import annotations

from datetime import timedelta

from config.device import Queue

#: What a delay is cut to where the queue has no cap, so that a long row of failures cannot overflow.
LONGEST_DELAY = timedelta(days=365)

_MICROSECOND = timedelta(microseconds=1)


def delay(queue: Queue, failures: int) -> timedelta | None:
    """Return the delay after the failure with this number (1 is the first); None: give up.

    The first delay is dcmRetryDelay, each further one dcmRetryDelayMultiplier percent of the one
    before, none longer than dcmMaxRetryDelay.
    """
    if failures > queue.max_retries:
        return None
    # Whole microseconds: no product of them is too large, as it may be for a timedelta.
    cap = (LONGEST_DELAY if queue.max_retry_delay is None else queue.max_retry_delay) // _MICROSECOND
    wait = queue.retry_delay // _MICROSECOND
    for _ in range(failures - 1):
        if wait >= cap and queue.retry_delay_multiplier >= 100:
            break
        wait = wait * queue.retry_delay_multiplier // 100
    return min(wait, cap) * _MICROSECOND
