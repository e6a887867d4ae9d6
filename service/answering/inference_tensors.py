"""Tensors of the Open Inference Protocol, as JSON and in its binary extension. No HTTP here.

https://github.com/kserve/open-inference-protocol, and the extension "binary tensor data" that its public clients use:
tensors follow the JSON header as bytes, in the order in which the header names them.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Annotated, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field, Strict, ValidationError

from service.http.problems import Problem, refused

IMAGE = "image"
DATATYPES = {"labels": "BYTES", "scores": "FP32", "familiarity": "FP32", "steps": "INT64", "ids": "BYTES"}
"""What can be asked for, by name."""

Images = list[bytes] | NDArray[np.uint8]
"""What came in: encoded files, or pixels [n, 3, px, px]."""

Rows = list[list[str]] | NDArray[Any]
"""A tensor on its way out: BYTES as lists of text, any other as an array; the first axis is the image."""


Parameters = Annotated[dict[str, Any], BeforeValidator(lambda told: {} if told is None else told)]
"""Null is none: MLServer's own types write out every field."""


class InputTensor(BaseModel):
    """The images of a request."""

    name: str = Field(description="There is one input.", json_schema_extra={"enum": [IMAGE]})
    shape: list[Annotated[int, Strict()]] = Field(
        max_length=4,
        fail_fast=True,
        description="BYTES: [n] or [n, 1] for n images. UINT8: [n, 3, px, px].",
    )
    datatype: str = Field(
        description="BYTES: each element a JPEG, PNG or WebP file. UINT8: pixels, RGB, of the backbone's own size.",
        json_schema_extra={"enum": ["BYTES", "UINT8"]},
    )
    parameters: Parameters = Field({}, description="`binary_data_size` where the data follow the JSON.")
    data: list[Any] | None = Field(None, description="BYTES: each image in base64. UINT8: numbers.")


class OutputRequest(BaseModel):
    """An output that is wanted."""

    name: str = Field(description=f"One of {', '.join(DATATYPES)}.")
    parameters: Parameters = Field({}, description="`binary_data`: as bytes behind the JSON.")


class InferRequest(BaseModel):
    """The header of a request, which is all of it where nothing is binary."""

    id: str | None = Field(None, max_length=1000, description="Comes back with the answer.")
    parameters: Parameters = Field({}, description="The budget, `top`, `labels`, `timeout`.")
    # At the first error: each of a million would be told apart, though one is answered.
    inputs: list[InputTensor] = Field(max_length=1, fail_fast=True, description="One, with the images.")
    outputs: list[OutputRequest] | None = Field(
        None, max_length=len(DATATYPES), fail_fast=True, description="All, unless some are named."
    )

    def wanted(self) -> list[tuple[str, bool]]:
        """Names of the outputs, and whether each goes out in binary. Raises Problem for an unknown one, and for a flag
        that is none."""
        binary = _flag(self.parameters, "binary_data_output", False)
        if not self.outputs:
            return [(name, binary) for name in DATATYPES]
        for output in self.outputs:
            if output.name not in DATATYPES:
                raise refused("output", output.name, f"be among {', '.join(DATATYPES)}")
        return [(o.name, _flag(o.parameters, "binary_data", binary)) for o in self.outputs]


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    """Raises Problem for what is neither true nor false: "no" would otherwise count as true."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise refused(name, value, "be true or false")
    return value


def parse(body: bytes, header_bytes: int | None, most: int, px: int) -> tuple[InferRequest, Images]:
    """A request's header and its images.

    header_bytes: length of the JSON header, None where it is the whole body; 0 where the body is an image as it is.
    most: images allowed.  px: side of an image that comes as pixels.  Raises Problem.
    """
    if header_bytes == 0:
        return InferRequest(inputs=[]), [body]
    header, binary = body[:header_bytes], body[len(body) if header_bytes is None else header_bytes :]
    try:
        request = InferRequest.model_validate_json(header)
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(map(str, found["loc"])) or "body"
        raise Problem(400, f"{place}: {found['msg'].lower()}") from None
    if [tensor.name for tensor in request.inputs] != [IMAGE]:
        raise refused("inputs", [tensor.name for tensor in request.inputs], f"be one, named {IMAGE}")
    (tensor,) = request.inputs
    data = _binary_data(tensor, binary)
    images: Images
    if tensor.datatype == "BYTES":
        images = _files(tensor, data, most)
    elif tensor.datatype == "UINT8":
        images = _pixels(tensor, data, most, px)
    else:
        raise refused("datatype", tensor.datatype, "be BYTES, of image files, or UINT8, of pixels")
    if not len(images):
        raise refused(IMAGE, 0, f"hold 1 to {most} images")
    tensor.data = None  # as Python's objects they take many times the memory that the images do
    return request, images


def _binary_data(tensor: InputTensor, binary: bytes) -> bytes | None:
    """The bytes of a tensor that follow the header, None where its data stand in it. Raises Problem."""
    size = tensor.parameters.get("binary_data_size")
    if size is None and not binary:
        return None
    if isinstance(size, bool) or size != len(binary):
        raise refused("binary_data_size", size, f"be {len(binary)}, the bytes that follow the header")
    if tensor.data:
        raise refused("data", f"{len(tensor.data)} elements", "be left out where the data follow the header")
    return binary


def _too_many(most: int) -> Problem:
    return refused(IMAGE, f"more than {most}", f"hold 1 to {most} images", 413)


def _files(tensor: InputTensor, data: bytes | None, most: int) -> list[bytes]:
    """The elements of a BYTES tensor, no further than one past `most`. Raises Problem."""
    encoded = _flat(tensor.data or [])
    elements = map(_from_base64, encoded) if data is None else _from_binary(data)
    files = list(islice(elements, most + 1))
    if len(files) > most:
        raise _too_many(most)
    if tensor.shape not in ([len(files)], [len(files), 1]):
        raise refused("shape", tensor.shape, f"be [{len(files)}], as many as there are elements")
    return files


def _pixels(tensor: InputTensor, data: bytes | None, most: int, px: int) -> NDArray[np.uint8]:
    """A UINT8 tensor as [n, 3, px, px]. Raises Problem."""
    if tensor.shape[1:] != [3, px, px]:
        raise refused("shape", tensor.shape, f"be [n, 3, {px}, {px}]")
    largest = most * 3 * px * px
    try:
        numbers = _bytes(islice(_flat(tensor.data or []), largest + 1)) if data is None else data
    except (TypeError, ValueError):
        raise refused("data", "no list of bytes", "hold whole numbers in 0..255") from None
    if len(numbers) > largest:
        raise _too_many(most)
    pixels = np.frombuffer(numbers, dtype=np.uint8)
    if tensor.shape[0] * 3 * px * px != len(pixels):
        raise refused("shape", tensor.shape, f"have as many elements as there are numbers, {len(pixels)}")
    return pixels.reshape(-1, 3, px, px)


def _bytes(elements: Iterable[Any]) -> bytes:
    """Raises TypeError and ValueError for what is no byte; `bytes` alone takes true for 1."""
    numbers = list(elements)
    if bool in set(map(type, numbers)):
        raise TypeError
    return bytes(numbers)


def _from_binary(data: bytes) -> Iterator[bytes]:
    """Elements of a BYTES tensor: each its length as a little-endian uint32, then itself. Raises Problem."""
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise Problem(400, "the binary data ends within the length of an element")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise Problem(400, f"the binary data ends within an element of {length} bytes")
        yield data[at : at + length]
        at += length


def _from_base64(element: object) -> bytes:
    try:
        if isinstance(element, str):  # of null or a number, the text could pass as base64
            return base64.b64decode(element, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise refused(
        IMAGE,
        "null" if element is None else element,
        "be base64, as JSON holds no bytes, or sent as binary data",
    )


def _flat(data: Sequence[Any]) -> Iterator[Any]:
    """What is in the lists within lists, however deep: each element costs the same."""
    levels = [iter(data)]
    while levels:
        for element in levels[-1]:
            if isinstance(element, list):
                levels.append(iter(element))
                break
            yield element
        else:
            levels.pop()


def serialise(
    answer: dict[str, Any], tensors: dict[str, Rows], wanted: Sequence[tuple[str, bool]]
) -> tuple[bytes, int | None]:
    """`answer` with the tensors wanted as its outputs; also the length of the JSON header where data follow it."""
    outputs, binary = [], []
    for name, as_bytes in wanted:
        rows = tensors[name]
        output: dict[str, Any] = {"name": name, "datatype": DATATYPES[name], "shape": _shape(rows)}
        if as_bytes:
            binary.append(_to_binary(rows))
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            output["data"] = rows.ravel().tolist() if isinstance(rows, np.ndarray) else list(chain(*rows))
        outputs.append(output)
    header = orjson.dumps({**answer, "outputs": outputs})
    return header + b"".join(binary), len(header) if binary else None


def _shape(rows: Rows) -> list[int]:
    return list(rows.shape) if isinstance(rows, np.ndarray) else [len(rows), len(rows[0])]


def _to_binary(rows: Rows) -> bytes:
    if isinstance(rows, np.ndarray):
        return rows.astype(rows.dtype.newbyteorder("<")).tobytes()
    texts = [text.encode() for row in rows for text in row]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
