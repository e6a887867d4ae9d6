"""The engine that batches images, the versions that answer them, and what is remembered of the answers."""
