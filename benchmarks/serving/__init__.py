"""Serving beside the bare model and beside other servers: `python -m benchmarks.serving`."""
