"""Learns one task at a time, and the worker that claims tasks, learns them and publishes versions."""
