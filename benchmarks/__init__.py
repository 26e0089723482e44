"""Benchmarks of gtask and gmonitor: `python -m benchmarks --help`. Not installed, not part of the tests."""
