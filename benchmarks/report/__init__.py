"""Tables and plots from kept figures: `python -m benchmarks.report`."""
