"""Versions to publish."""

from exchange.manifests import BackboneRecord, Draft

WEIGHTS = {"serving": lambda path: path.write_bytes(b"weights")}


def publish(registry, parent=None, kind="fast", files=WEIGHTS, lease_token=None, **changes):
    fields = {
        "kind": kind,
        "parent": parent,
        "backbone": BackboneRecord("vit_tiny", 224, "ab"),
        "labels": ("cat",),
        "consolidated": (),
        "fast": ("t1",),
        "slots": 0,
        "metrics": {"accuracy": 0.5},
    }
    return registry.publish(Draft(**fields | changes), files, lease_token)


def publish_chain(registry, kinds):
    """Versions 1, 2, ... each the child of the one before."""
    for version, kind in enumerate(kinds):
        publish(registry, version or None, kind)


def files_of(registry):
    return sorted(path.name for path in registry.shelf.root.iterdir())
