"""Measurements that anyone can repeat: `make bench`, or one of them as `python -m benchmarks.NAME`."""
