"""From uploads to a queued task. Runs in a worker thread; Redis and the disk may take their time."""

from __future__ import annotations

from collections.abc import Sequence

from exchange.blobs import name_of
from exchange.records import Sample, TaskRecord, TaskState
from exchange.repeats import request_digest, require_same
from service.services import Services
from service.uploads.images import Upload, cleaned, default_name
from service.uploads.inspection import inspected, while_open


def submit(services: Services, uploads: Sequence[Upload], name: str, key: str | None) -> TaskRecord:
    """Check every image, store them all, queue the task; or find the task that the key has made of them before.

    Raises Problem and ExchangeError, and has queued nothing then.
    """
    uploads = cleaned(uploads)
    name = name or default_name([upload.label for upload in uploads])
    if key is not None and (task := made_before(services, uploads, name, key)) is not None:
        return task
    checked = inspected(uploads, services.px, services.config, services.lifecycle, services.task_decoders)
    # `submit` decides; asking before saves storing the images of a task that will be refused.
    services.queue.require_room(key)
    blobs = services.blobs.put_many(upload.read() for upload in while_open(checked, services.lifecycle))
    return services.queue.submit(name, labelled(blobs, checked), key).task


def made_before(services: Services, uploads: Sequence[Upload], name: str, key: str) -> TaskRecord | None:
    """The task that the same request made before; None for a key that has made none.

    A request that is sent again, since its answer came too late, is answered sooner for it: its images are hashed, but
    not decoded nor stored. Those of a failed task are, for a retry of it may miss some.
    Raises IdempotencyMismatch for another request, and Problem for images that cannot be read.
    """
    made = services.queue.made_with(key)
    if made is None or made.task.state is TaskState.FAILED:
        return None
    names = [name_of(upload.read()) for upload in while_open(uploads, services.lifecycle)]
    require_same(made, request_digest(name, labelled(names, uploads)))
    return made.task


def labelled(blobs: Sequence[str], uploads: Sequence[Upload]) -> list[Sample]:
    """The samples of a task: blobs, by name, and the labels they came with."""
    return [Sample(blob, upload.label) for blob, upload in zip(blobs, uploads, strict=True)]
