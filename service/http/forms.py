"""Forms with images in them, as multipart bodies."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.http.problems import Problem, refused, unfit
from service.http.receive import BINARY, IN_MEMORY_BYTES, Hold, buffering, stream_body

FILES = ("files", "file")
"""What a form calls its images; the first is documented, the other is what many forms say of one."""


def form_of_files(**others: object) -> dict[str, Any]:
    """What the API document says of a form that `file_parts` takes. others: schemas of its other fields, by name."""
    files = {"type": "array", "minItems": 1, "items": BINARY["schema"]}
    properties = {FILES[0]: files, **others}
    schema = {"type": "object", "required": list(properties), "properties": properties}
    return {"multipart/form-data": {"schema": schema}}


class WholeForm(MultiPartParser):
    """Refuses what Starlette passes over in silence: a part whose end never came, and text that is not UTF-8.

    Says what is too much of, which Starlette calls unsound.
    """

    ended = False

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes], most: int, in_memory: int) -> None:
        """most: files allowed, and as many other fields.  in_memory: bytes of a file before it goes to disk."""
        super().__init__(headers, stream, max_files=inf, max_fields=inf)
        self._most, self.spool_max_size = most, in_memory

    def on_headers_finished(self) -> None:
        """Raises Problem 413 for one part too many, and 422 for an image that would be taken for text."""
        super().on_headers_finished()
        if self._current_part.file is None and self._current_part.field_name in FILES:
            if dict(self._current_part.item_headers).get(b"content-type", b"").startswith(b"multipart/"):
                raise unfit(422, self._place(), "holds several files", "be a single one; repeat it for each")
            allowed = "be sent as a file part, with a filename, no filename*, in its Content-Disposition"
            raise unfit(422, self._place(), "has no filename", allowed)
        for name, count in ((FILES[0], self._current_files), ("form fields", self._current_fields)):
            if count > self._most:
                raise refused(name, f"more than {self._most}", f"come 1 to {self._most} times", 413)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Raises Problem 413 for text that is too long."""
        part = self._current_part
        if part.file is None and len(part.data) + end - start > self.max_part_size:
            allowed = f"have at most {self.max_part_size} bytes"
            raise refused(self._place(), f"more than {self.max_part_size} bytes", allowed, 413)
        super().on_part_data(data, start, end)

    def _place(self) -> str:
        """What error messages call the part under way: "labels[0]"."""
        name = self._current_part.field_name
        return f"{name}[{sum(other == name for other, _ in self.items)}]"

    def on_part_end(self) -> None:
        """Raises Problem 422 for text that would be taken for Latin-1, and be another label than was meant."""
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode()
            except UnicodeDecodeError as error:
                found = part.data.decode(errors="backslashreplace")
                raise refused(self._place(), found, "be UTF-8") from error
        super().on_part_end()

    def on_end(self) -> None:
        self.ended = True

    async def parse(self) -> FormData:
        """Raises MultiPartException besides."""
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The parser asks for more once it has parsed what came; an error raised here makes it close its files."""
        # Whatever the head called it: a name that Starlette does not know means Latin-1 to it.
        self._charset = "utf-8"
        async for chunk in stream:
            yield chunk
        if not self.ended:
            raise MultiPartException("its last boundary, which ends in --, is missing")


@asynccontextmanager
async def read_form(
    request: Request,
    limit: int,
    idle_s: float,
    max_files: int,
    hold: Hold | None = None,
    in_memory: int = IN_MEMORY_BYTES,
) -> AsyncIterator[FormData]:
    """A multipart body, files of more than `in_memory` bytes on disk until the block ends.

    Raises Problem 400, 413 and 422 besides.
    """
    stream = stream_body(request, limit, idle_s, hold)
    try:
        with buffering():
            form = await WholeForm(request.headers, stream, max_files, in_memory).parse()
    except MultiPartException as error:
        raise Problem(400, f"body is no sound multipart/form-data: {error.message}") from error
    try:
        yield form
    finally:
        await form.close()


def file_parts(form: FormData, others: tuple[str, ...] = ()) -> list[UploadFile]:
    """The files of a form, in order. Raises Problem for any field but them and `others`, which hold text."""
    files: list[UploadFile] = []
    for name, value in form.multi_items():
        if name in FILES and not isinstance(value, str):
            files.append(value)
        elif name not in others:
            raise refused("form field", name, f"be {' or '.join((FILES[0], *others))}")
        elif not isinstance(value, str):
            raise refused(name, "a file", "be text")
    return files
