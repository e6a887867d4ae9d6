"""/v2 with the public Triton client, unchanged, and what it does not send by hand."""

from __future__ import annotations

import base64
import gc
import json
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of gevent, on its way in
    http = pytest.importorskip("tritonclient.http", reason="pip install 'tritonclient[http]'")

from service.config import ServiceConfig
from service.uploads.decode import decode
from tests.service.conftest import LABELS
from tests.service.support import PX, Running, picture, running

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def triton(server: Running) -> Iterator[Any]:
    with http.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def tensor(*images: bytes, shape: list[int] | None = None) -> Any:
    image = http.InferInput("image", shape or [len(images)], "BYTES")
    image.set_data_from_numpy(np.array(images, dtype=object).reshape(shape or len(images)))
    return image


def asked(server: Running, seed: int, **params: Any) -> Any:
    return server.client.post("/classify", content=picture(seed), headers=PNG, params=params).json()


def test_it_is_alive_ready_and_described(server: Running, triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    version = str(server.registry.current())
    assert triton.is_model_ready("hippotune")
    assert triton.is_model_ready("hippotune", version)
    assert not triton.is_model_ready("hippotune", "999")
    assert not triton.is_model_ready("another")
    model = triton.get_model_metadata("hippotune", version)
    assert (model["name"], model["versions"]) == ("hippotune", [version])
    assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert {output["name"]: output["datatype"] for output in model["outputs"]} == {
        "labels": "BYTES",
        "scores": "FP32",
        "familiarity": "FP32",
        "steps": "INT64",
        "ids": "BYTES",
    }


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_images_go_in_as_bytes_with_a_budget_and_come_out_as_classify_has_them(
    server: Running, triton: Any, shape: list[int]
) -> None:
    images = tensor(*(picture(seed) for seed in range(3)), shape=shape)
    budget = {"tmax": 2, "epsilon": 0.0, "topk": 3, "top": 4}
    result = triton.infer("hippotune", [images], request_id="mine", parameters=budget)
    answer = result.get_response()
    assert (answer["id"], answer["model_version"]) == ("mine", str(server.registry.current()))
    labels, scores = result.as_numpy("labels"), result.as_numpy("scores")
    assert labels.shape == scores.shape == (3, 4)
    assert scores.dtype == np.float32
    assert (result.as_numpy("steps") == 2).all()
    for seed in range(3):
        wanted = asked(server, seed, **budget)["predictions"]
        assert [label.decode() for label in labels[seed]] == [p["label"] for p in wanted]
        np.testing.assert_allclose(scores[seed], [p["score"] for p in wanted], atol=1e-4)


def test_outputs_are_chosen_and_may_be_json(server: Running, triton: Any) -> None:
    outputs = [
        http.InferRequestedOutput("labels", binary_data=False),
        http.InferRequestedOutput("scores", binary_data=True),
    ]
    version = str(server.registry.current())
    result = triton.infer("hippotune", [tensor(picture(1))], version, outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["labels", "scores"]
    (best, *_), (score, *_) = result.as_numpy("labels")[0], result.as_numpy("scores")[0]
    assert (best, score) == (
        asked(server, 1)["predictions"][0]["label"],
        pytest.approx(asked(server, 1)["predictions"][0]["score"], abs=1e-4),
    )


def test_an_answer_is_corrected_by_its_id(server: Running, triton: Any) -> None:
    result = triton.infer("hippotune", [tensor(picture(5))])
    ((id_,),) = result.as_numpy("ids")
    assert server.client.post("/feedback", json={"id": id_.decode(), "label": "cat"}).status_code == 202


def test_labels_may_be_restricted(triton: Any) -> None:
    result = triton.infer("hippotune", [tensor(picture())], parameters={"labels": "cat,dog"})
    assert {label.decode() for label in result.as_numpy("labels")[0]} == {"cat", "dog"}


def test_a_timeout_of_zero_is_none(triton: Any) -> None:
    assert triton.infer("hippotune", [tensor(picture())], timeout=0).as_numpy("labels").size


def test_what_clients_write_out_as_null_or_say_of_themselves_is_passed_over(server: Running) -> None:
    """As MLServer's types and codecs do."""
    data, said = [base64.b64encode(picture()).decode()], {"content_type": "base64"}
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": data, "parameters": None}
    labels = {"name": "labels", "parameters": None}
    for request in (
        {"id": None, "parameters": None, "inputs": [image], "outputs": None},
        {"parameters": said | {"headers": {}}, "inputs": [image | {"parameters": said}], "outputs": [labels]},
    ):
        response = server.client.post("/v2/models/hippotune/infer", json=request)
        assert response.status_code == 200, response.text
        assert response.json()["outputs"][0]["data"][0] == asked(server, 0)["predictions"][0]["label"]


def test_json_alone_takes_base64(server: Running) -> None:
    data = [base64.b64encode(picture(seed)).decode() for seed in range(2)]
    image = {"name": "image", "shape": [2], "datatype": "BYTES", "data": data}
    response = server.client.post("/v2/models/hippotune/infer", json={"inputs": [image]})
    assert response.status_code == 200, response.text
    outputs = {output["name"]: output for output in response.json()["outputs"]}
    assert outputs["labels"]["shape"] == [2, 5]
    assert outputs["labels"]["data"][5] == asked(server, 1)["predictions"][0]["label"]
    assert set(outputs["labels"]["data"]) <= set(LABELS)


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_of_the_backbones_size_are_taken_as_they_are(
    server: Running, triton: Any, binary: bool
) -> None:
    files = [picture(seed, size=(PX, PX)) for seed in range(2)]
    pixels = np.stack([decode(file, PX, PX * PX) for file in files])
    image = http.InferInput("image", list(pixels.shape), "UINT8")
    image.set_data_from_numpy(pixels, binary_data=binary)
    mine, theirs = (triton.infer("hippotune", [sent]) for sent in (image, tensor(*files)))
    np.testing.assert_array_equal(mine.as_numpy("labels"), theirs.as_numpy("labels"))
    np.testing.assert_array_equal(mine.as_numpy("scores"), theirs.as_numpy("scores"))


def test_one_image_may_be_the_whole_body(server: Running) -> None:
    headers = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
    response = server.client.post("/v2/models/hippotune/infer", content=picture(1), headers=headers)
    assert response.json()["outputs"][0]["data"][0] == asked(server, 1)["predictions"][0]["label"]


@pytest.mark.parametrize(
    ("model", "version", "parameters", "told"),
    [
        ("another", "", {}, "no model 'another'"),
        ("hippotune", "999", {}, "is not served here"),
        ("hippotune", "", {"tmax": 99}, "tmax is 99; it must lie in 1..4"),
        ("hippotune", "", {"tmax": "many"}, "tmax"),
        ("hippotune", "", {"temperature": 1}, "parameter is 'temperature'"),
        ("hippotune", "", {"labels": "unicorn"}, "labels is 'unicorn'"),
    ],
)
def test_errors_are_the_protocols_own(
    triton: Any, model: str, version: str, parameters: dict[str, Any], told: str
) -> None:
    with pytest.raises(http.InferenceServerException, match=told):  # type: ignore[attr-defined]
        triton.infer(model, [tensor(picture())], version, parameters=parameters)


def test_a_model_that_knows_nothing_is_not_ready(config: ServiceConfig) -> None:
    with running(config) as server, http.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert client.is_server_ready()
        assert not client.is_model_ready("hippotune")
        assert client.get_model_metadata("hippotune")["versions"] == []
        response = server.client.get("/v2/models/hippotune/ready")
        assert response.headers["retry-after"]


def test_the_page_about_it_is_true(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "inference-protocol.md").read_text()
    address = server.url.removeprefix("http://")
    code, command = re.findall(
        r"```(?:python|sh)\n(.*?)```", page.replace("127.0.0.1:8000", address), re.DOTALL
    )
    (tmp_path / "rose.jpg").write_bytes(picture(1, "JPEG"))
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the page leaves its file and its client open
        exec(code, {})
        gc.collect()
    label, _ = capsys.readouterr().out.split(" 0.")
    assert label in LABELS
    answer = subprocess.run([*shlex.split(command), "-sS"], capture_output=True, check=True).stdout
    outputs = {output["name"]: output for output in json.loads(answer)["outputs"]}
    assert set(re.findall(r"^\| `(\w+)` \| (?:BYTES|FP32|INT64)", page, re.MULTILINE)) == set(outputs)


def test_the_fast_path_is_for_this_model_alone_and_counted_by_its_template(server: Running) -> None:
    def answered() -> int:
        text = server.client.get("/metrics").text
        counted = r'^hippotune_request_duration_seconds_count\{code="200",route="/v2/models/\{model\}/infer"\} (\d+)'
        return int(re.findall(counted, text, re.MULTILINE)[0])

    def ask(model: str) -> int:
        headers = PNG | {"Inference-Header-Content-Length": "0"}
        return server.client.post(
            f"/v2/models/{model}/infer", content=picture(1), headers=headers
        ).status_code

    assert ask("hippotune") == 200
    before = answered()
    assert [ask("hippotune"), ask("another"), ask("hippotune/")] == [200, 404, 404]
    assert answered() == before + 1
