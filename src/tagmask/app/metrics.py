"""What a server counts, in the text format of Prometheus."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Final

__all__ = ["CONTENT_TYPE", "RequestMetrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the histogram of seconds."""


class RequestMetrics:
    """Counts requests by route and status, and how long they took; safe in several threads.

    Args:
        waiting: returns how many requests wait or are computed.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._in_bucket: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, float] = {}

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count a request; only those that were answered with a result are in the histogram."""
        with self._lock:
            self._requests[route, status] += 1
            if status < 400:
                self._in_bucket[route, bisect_left(_BUCKETS, seconds)] += 1
                self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self) -> str:
        """Return all of it.

        Example:
            >>> metrics = RequestMetrics(lambda: 2)
            >>> metrics.add("/v1/tag", 200, 0.3)
            >>> print(metrics.text().splitlines()[-1])
            tagmask_requests_waiting 2
        """
        with self._lock:
            requests, in_bucket = sorted(self._requests.items()), self._in_bucket.copy()
            seconds = dict(self._seconds)
        lines = ["# HELP tagmask_requests_total Requests answered.", "# TYPE tagmask_requests_total counter"]
        lines += [
            f'tagmask_requests_total{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in requests
        ]
        lines += [
            "# HELP tagmask_request_seconds Seconds until requests were answered with a result.",
            "# TYPE tagmask_request_seconds histogram",
        ]
        for route, total in sorted(seconds.items()):
            count = 0
            for i, bound in enumerate((*map(str, _BUCKETS), "+Inf")):
                count += in_bucket[route, i]
                lines.append(f'tagmask_request_seconds_bucket{{route="{route}",le="{bound}"}} {count}')
            lines.append(f'tagmask_request_seconds_sum{{route="{route}"}} {total:.6f}')
            lines.append(f'tagmask_request_seconds_count{{route="{route}"}} {count}')
        lines += [
            "# HELP tagmask_requests_waiting Requests that wait or are computed.",
            "# TYPE tagmask_requests_waiting gauge",
            f"tagmask_requests_waiting {self._waiting()}",
        ]
        return "\n".join(lines) + "\n"
