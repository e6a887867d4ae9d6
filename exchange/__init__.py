"""What trainer and service say to each other: task queue, version registry, blob store, Redis connection."""
