import math

import orjson
import pytest

from exchange.manifests import BackboneRecord, FileRecord, Manifest
from exchange.records import LabelChange, Sample, TaskChange, samples_from_json, samples_to_json


def manifest(**changes):
    fields = {
        "version": 2,
        "parent": 1,
        "created_at": 1.5,
        "kind": "fast",
        "backbone": BackboneRecord("vit_tiny", 224, "ab"),
        "labels": ("cat", "żółw"),
        "consolidated": ("t1",),
        "fast": ("t2",),
        "slots": 10,
        "metrics": {"accuracy": 0.5},
        "files": {"serving": FileRecord("000002.serving.safetensors", "cd", 3)},
    }
    return Manifest(**fields | changes)


def test_a_manifest_survives_json():
    assert Manifest.from_json(manifest().to_json()) == manifest()


def test_applied_is_all_that_a_version_knows():
    assert manifest().applied == ("t1", "t2")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_metric_that_json_cannot_hold_is_refused(bad):
    with pytest.raises(ValueError, match="accuracy"):
        manifest(metrics={"accuracy": bad})


@pytest.mark.parametrize(
    "change", [{"progress": 1.5}, {"progress": math.nan}, {"metrics": {"loss": math.nan}}]
)
def test_a_figure_out_of_range_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        TaskChange(**change)


def test_every_truncation_of_a_manifest_is_noticed():
    whole = manifest().to_json().rstrip()
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="Manifest"):
            Manifest.from_json(whole[:length])


def test_a_manifest_with_a_field_from_the_future_can_be_read():
    newer = manifest().to_json().replace(b"{", b'{"mood": "good",', 1)
    assert Manifest.from_json(newer) == manifest()


def test_what_is_told_of_labels_survives_json_and_may_be_missing():
    told = manifest(images=(3, 5), taught={"t1": (0,), "t2": (0, 1)})
    assert Manifest.from_json(told.to_json()) == told
    assert (manifest().images, manifest().taught) == (None, None)
    older = orjson.loads(told.to_json())
    del older["images"], older["taught"]
    assert Manifest.from_json(orjson.dumps(older)) == manifest()


def test_samples_survive_json():
    samples = (Sample("ab", "cat"), Sample("cd", "dog"))
    assert samples_from_json(samples_to_json(samples)) == samples


def test_no_class_is_renamed_to_itself():
    """Merged with itself, it would be gone."""
    with pytest.raises(ValueError, match="must be another label"):
        LabelChange("rose", "rose")
