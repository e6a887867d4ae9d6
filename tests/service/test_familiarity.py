"""Answers tell how familiar an image looks, in every way they are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, expect

from hippotune import Client
from model.checkpoint import Checkpoint
from service.config import ServiceConfig
from service.runtimes.base import Output, fault_of
from tests.service.support import Running, picture, random_version, running, wait_for
from tests.service.web.chromium import opened

PNG = {"Content-Type": "image/png"}
JSON_ALONE = {"Inference-Header-Content-Length": "0"}
LABELS = ("ant", "bee", "cow")


@pytest.fixture
def empty(config: ServiceConfig) -> Iterator[Running]:
    with running(config) as server:
        yield server


def seeing(version: Checkpoint, usual: float | None) -> Checkpoint:
    """A version to which images usually lie so near, on a logarithmic scale; None has it not know."""
    measure = version.head.familiarity
    assert measure is not None
    if usual is not None:
        measure = replace(measure, usual=torch.tensor([[usual, 1.0], [1e6, 1.0]]))
    return replace(version, head=replace(version.head, familiarity=None if usual is None else measure))


def figures(server: Running, name: str) -> list[float]:
    """What the metric of that name, labels included, says: nothing if there is none."""
    lines = server.client.get("/metrics").text.splitlines()
    return [float(line.removeprefix(name)) for line in lines if line.startswith(f"{name} ")]


def test_it_is_told_and_counted_by_version(empty: Running) -> None:
    version = random_version(empty.backbone, LABELS)
    for usual, wanted in ((100.0, 1.0), (-100.0, 0.0), (None, None)):
        number = empty.serve(seeing(version, usual)).version
        answer = empty.client.post("/classify", content=picture(), headers=PNG).json()
        assert answer["familiarity"] == wanted
        inferred = empty.client.post(
            "/v2/models/hippotune/infer", content=picture(), headers=JSON_ALONE
        ).json()
        (told,) = [one for one in inferred["outputs"] if one["name"] == "familiarity"]
        assert (told["datatype"], told["shape"], told["data"]) == ("FP32", [1, 1], [wanted])
        with Client(empty.url) as client:
            assert client.classify(picture()).familiarity == wanted
        # An answer comes before it is counted.
        images = f'hippotune_version_images_total{{outcome="answered",version="{number}"}}'
        wait_for(lambda name=images: figures(empty, name) == [3])
        strange = f'hippotune_version_familiarity_bucket{{le="0.01",version="{number}"}}'
        expected = {1.0: [0], 0.0: [3], None: []}[wanted]
        wait_for(lambda name=strange, expected=expected: figures(empty, name) == expected)


def test_a_version_that_does_not_measure_each_image_is_at_fault() -> None:
    scores, steps = np.full((1, 2), 0.5, np.float32), np.zeros((1, 0), np.int64)
    measured = Output(scores, np.ones(1, np.float32), steps, np.zeros((1, 4), np.float32), ())
    assert fault_of(measured, 2) is None
    fault = fault_of(replace(measured, familiarity=np.ones(2, np.float32)), 2)
    assert fault == "familiarity of shape (2,) for one image"


def test_the_page_says_so_of_an_image_like_none_it_was_taught(chromium: Browser, empty: Running) -> None:
    version, message = random_version(empty.backbone, LABELS), "It looks like nothing it was taught."
    image = {"name": "a.png", "mimeType": "image/png", "buffer": picture()}
    for usual, strange in ((-100.0, True), (100.0, False), (None, False)):
        empty.serve(seeing(version, usual))
        with opened(chromium, empty.url) as (page, errors):
            page.locator("#ask-file").set_input_files(image)
            expect(page.locator("#ask-bars li")).to_have_count(3)
            expect(page.locator("#ask-message")).to_have_text(message if strange else "")
        assert errors == []
