"""How fast the system is, and beside what: `python -m benchmarks.bench` (`make bench`)."""
