"""/v2 refuses what it cannot read in the protocol's own words, and names what is allowed."""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from service.answering.inference_tensors import InferRequest, parse
from tests.service.support import PX, Running, picture


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"labels": ["cat", 5]}, "labels is "),
        ({"timeout": "5"}, "timeout is '5'; it must be a whole number of microseconds"),
        ({"timeout": -5}, "timeout is -5; it must be a whole number of microseconds"),
        ({"timeout": True}, "timeout is True; it must be a whole number of microseconds"),
        ({"binary_data_output": "no"}, "binary_data_output is 'no'; it must be true or false"),
        ({"tmax": True}, "tmax is True; it must be a number"),
        ({"top": True}, "top is True; it must be a number"),
        ({"epsilon": False}, "epsilon is False; it must be a number"),
        ({"keep": True}, "keep is True; it must be a number"),
        ({"tmx": None}, "it must be among tmax"),
        ({"tmx": 1}, "it must be among tmax, epsilon, topk, keep, budget_ms, labels, top, timeout"),
    ],
)
def test_a_parameter_that_is_refused_is_named_with_what_is_allowed(
    server: Running, parameters: dict[str, Any], told: str
) -> None:
    image = {
        "name": "image",
        "shape": [1],
        "datatype": "BYTES",
        "data": [base64.b64encode(picture()).decode()],
    }
    body = {"inputs": [image], "parameters": parameters}
    response = server.client.post("/v2/models/hippotune/infer", json=body)
    assert response.status_code == 422
    assert told in response.json()["error"]


def test_a_parameter_that_is_null_is_as_if_left_out(server: Running) -> None:
    image = {
        "name": "image",
        "shape": [1],
        "datatype": "BYTES",
        "data": [base64.b64encode(picture()).decode()],
    }
    nothing = dict.fromkeys(("tmax", "epsilon", "topk", "keep", "budget_ms", "labels", "top", "timeout"))
    body = {"inputs": [image], "parameters": nothing}
    response = server.client.post("/v2/models/hippotune/infer", json=body)
    assert response.status_code == 200, response.text


def test_a_budget_in_the_query_is_not_passed_over(server: Running) -> None:
    image = {"Inference-Header-Content-Length": "0"}
    for path in ("infer", f"versions/{server.registry.current()}/infer"):
        path = f"/v2/models/hippotune/{path}"
        assert server.client.post(path, content=picture(), headers=image).status_code == 200
        response = server.client.post(f"{path}?tmax=2", content=picture(), headers=image)
        assert response.status_code == 422
        assert response.json()["error"] == "tmax is '2'; it must stand among the `parameters` of the body"


def test_an_outputs_own_flag_is_true_or_false(server: Running) -> None:
    outputs = [{"name": "labels", "parameters": {"binary_data": "false"}}]
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="]}
    body = {"inputs": [image], "outputs": outputs}
    response = server.client.post("/v2/models/hippotune/infer", json=body)
    assert response.status_code == 422
    assert response.json()["error"] == "binary_data is 'false'; it must be true or false"


@pytest.mark.parametrize("binary", [b"", struct.pack("<I", 1) + b"x"])
def test_a_tensor_has_its_data_in_one_place(server: Running, binary: bytes) -> None:
    parameters = {"binary_data_size": len(binary)}
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="], "parameters": parameters}
    header = json.dumps({"inputs": [image]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    response = server.client.post("/v2/models/hippotune/infer", content=header + binary, headers=headers)
    assert response.status_code == 422
    told = "data is '1 elements'; it must be left out where the data follow the header"
    assert response.json()["error"] == told


@pytest.mark.parametrize("element", [None, 1234, True, "no base64", {}])
def test_an_image_in_json_is_base64(server: Running, element: Any) -> None:
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [element]}
    response = server.client.post("/v2/models/hippotune/infer", json={"inputs": [image]})
    assert response.status_code == 422
    assert "it must be base64" in response.json()["error"], response.text


@pytest.mark.parametrize(
    ("shape", "data", "told"),
    [
        ([1, 3, 8, 8], bytes(192), f"it must be \\[n, 3, {PX}, {PX}\\]"),
        ([3 * PX * PX], bytes(3 * PX * PX), "it must be \\[n, 3"),
        ([2, 3, PX, PX], bytes(3 * PX * PX), f"as many elements as there are numbers, {3 * PX * PX}"),
        ([-1, 3, PX, PX], bytes(3 * PX * PX), "as many elements"),
        ([0, 3, PX, PX], b"", "image is 0"),
        ([1, 3, PX, PX], [256] * (3 * PX * PX), "whole numbers in 0..255"),
        ([1, 3, PX, PX], ["1"] * (3 * PX * PX), "whole numbers in 0..255"),
        ([1, 3, PX, PX], [1] * (3 * PX * PX - 1) + [True], "whole numbers in 0..255"),
    ],
)
def test_pixels_of_another_shape_are_refused(server: Running, shape: list[int], data: Any, told: str) -> None:
    image: dict[str, Any] = {"name": "image", "shape": shape, "datatype": "UINT8"}
    if isinstance(data, bytes):
        header = json.dumps({"inputs": [image | {"parameters": {"binary_data_size": len(data)}}]}).encode()
        body = header + data
    else:
        header = body = json.dumps({"inputs": [image | {"data": data}]}).encode()
    response = server.client.post(
        "/v2/models/hippotune/infer",
        content=body,
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    assert response.status_code == 422
    assert re.search(told, response.json()["error"]), response.text


def test_more_images_than_allowed_are_not_all_looked_at(server: Running) -> None:
    def refused(body: bytes, header_bytes: int) -> None:
        headers = {"Inference-Header-Content-Length": str(header_bytes)}
        response = server.client.post("/v2/models/hippotune/infer", content=body, headers=headers)
        assert response.status_code == 413, response.text
        assert response.json()["error"] == "image is 'more than 64'; it must hold 1 to 64 images"

    files, pixels = ["AA=="] * 65 + ["no base64"], [0] * (64 * 3 * PX * PX + 1) + ["no number"]
    for datatype, shape, data in (("BYTES", [1], files), ("UINT8", [1, 3, PX, PX], pixels)):
        image = {"name": "image", "shape": shape, "datatype": datatype, "data": data}
        body = json.dumps({"inputs": [image]}).encode()
        refused(body, len(body))
    for datatype, shape, size in (("BYTES", [1], 1 << 20), ("UINT8", [65, 3, PX, PX], 65 * 3 * PX * PX)):
        image = {
            "name": "image",
            "shape": shape,
            "datatype": datatype,
            "parameters": {"binary_data_size": size},
        }
        header = json.dumps({"inputs": [image]}).encode()
        refused(header + bytes(size), len(header))


@pytest.mark.parametrize("field", ["inputs", "outputs", "shape"])
def test_the_first_of_many_errors_is_the_last_looked_for(server: Running, field: str) -> None:
    many = b'"%b":[%bnull]' % (field.encode(), b"null," * 50_000)
    if field == "shape":
        many = b'"inputs":[{"name":"image","datatype":"BYTES",%b}]' % many
    elif field == "outputs":
        many += b',"inputs":[]'
    body = b"{%b}" % many
    with pytest.raises(ValidationError) as found:
        InferRequest.model_validate_json(body)
    assert found.value.error_count() == 1
    response = server.client.post("/v2/models/hippotune/infer", content=body)
    assert response.status_code == 400
    assert f"{field}.0: input should be" in response.json()["error"]


def test_long_json_does_not_hold_up_the_event_loop(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers = []

    def noting(*args: Any) -> Any:
        parsers.append(threading.current_thread().name)
        return parse(*args)

    monkeypatch.setattr("service.routes.inference.parse", noting)
    for data in (picture(), picture(size=(200, 200))):
        image = {
            "name": "image",
            "shape": [1],
            "datatype": "BYTES",
            "data": [base64.b64encode(data).decode()],
        }
        response = server.client.post("/v2/models/hippotune/infer", json={"inputs": [image]})
        assert response.status_code == 200, response.text
    assert [name == "uvicorn" for name in parsers] == [True, False]


def test_lists_within_lists_are_read_at_any_depth() -> None:
    data: Any = [base64.b64encode(picture()).decode()]
    for _ in range(100):
        data = [[], data]
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": data}
    header, images = parse(json.dumps({"inputs": [image]}).encode(), None, 64, PX)
    assert images == [picture()]
    assert header.inputs[0].data is None


HUGE = b",".join([b"9" * 18] * 300_000)
"""A shape whose product is a number of two megabytes, for which nobody has the time."""


@pytest.mark.parametrize("length", ["-1", "1.5", "x", "9" * 5000])
def test_the_length_of_the_header_is_a_number(server: Running, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    response = server.client.post("/v2/models/hippotune/infer", content=b"{}", headers=headers)
    assert response.status_code == 400, response.text


@pytest.mark.parametrize(
    ("header", "binary", "status"),
    [
        (b"not json", b"", 400),
        (b"{}", b"", 400),
        (b'{"inputs": []}', b"", 422),
        (b'{"inputs": [], "outputs": [%b]}' % b",".join([b'{"name": "labels"}'] * 6), b"", 400),
        pytest.param(
            b'{"inputs": [{"name": "image", "shape": [%b], "datatype": "BYTES"}]}' % HUGE,
            b"",
            400,
            id="huge shape",
        ),
        (b'{"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": [1]}]}', b"", 422),
        (b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["*"]}]}', b"", 422),
        (b'{"inputs": [{"name": "image", "shape": [2], "datatype": "BYTES", "data": ["AA=="]}]}', b"", 422),
        (b'{"inputs": [{"name": "image", "shape": [0], "datatype": "BYTES", "data": []}]}', b"", 422),
        (b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="]}]}', b"", 415),
        (
            b'{"inputs": [{"name": "image", "shape": [true], "datatype": "BYTES", "data": ["AA=="]}]}',
            b"",
            400,
        ),
        (b'{"inputs": [{"name": "image", "shape": ["1"], "datatype": "BYTES", "data": ["AA=="]}]}', b"", 400),
        ("sized", b"\x05\0\0\0abc", 400),
        ("sized", b"\x05\0", 400),
        (
            b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="]}]}',
            b"abc",
            422,
        ),
        ("sized", struct.pack("<I", 3) + b"abc" + struct.pack("<I", 0), 422),
    ],
)
def test_a_bad_request_is_told_apart(server: Running, header: Any, binary: bytes, status: int) -> None:
    if header == "sized":
        header = b'{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":%d}}]}'
        header %= len(binary)
    headers = {"Inference-Header-Content-Length": str(len(header))}
    response = server.client.post("/v2/models/hippotune/infer", content=header + binary, headers=headers)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    assert response.headers["content-type"] == "application/json"


def test_paths_and_methods_that_are_none_are_the_protocols_errors_too(server: Running) -> None:
    for method, path in (("GET", "/v2/nothing"), ("PUT", "/v2/health/live")):
        response = server.client.request(method, path)
        assert response.status_code in (404, 405)
        assert set(response.json()) == {"error"}
    assert "detail" in server.client.get("/nothing").json()
