"""What is measured, each one command: `python -m benchmarks.NAME`."""
