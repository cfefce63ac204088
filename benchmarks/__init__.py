"""Workloads against the peers, alternating in one process: `python -m benchmarks --help`."""
