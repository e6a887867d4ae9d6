"""Versions to publish."""

from exchange.records import BackboneRecord


def publish(registry, expected=None, kind="fast", **changes):
    fields = {
        "kind": kind,
        "parent": expected,
        "backbone": BackboneRecord("vit_tiny", 224, "ab"),
        "labels": ["cat"],
        "consolidated": [],
        "fast": ["t1"],
        "slots": 0,
        "metrics": {"accuracy": 0.5},
        "files": {"serving": lambda path: path.write_bytes(b"weights")},
        "expected": expected,
    }
    return registry.publish(**fields | changes)


def publish_chain(registry, kinds):
    """Versions 1, 2, ... each the child of the one before."""
    for version, kind in enumerate(kinds):
        publish(registry, version or None, kind)


def files_of(registry):
    return sorted(path.name for path in registry.shelf.root.iterdir())
