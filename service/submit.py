"""From checked uploads to a queued task. Runs in a worker thread; Redis and the disk may take their time."""

from __future__ import annotations

from collections.abc import Sequence

from exchange.records import Sample, TaskRecord
from service.services import Services
from service.uploads import Upload, check, default_name, while_open


def submit(services: Services, uploads: Sequence[Upload], name: str, key: str | None) -> TaskRecord:
    """Check every image, store them all, queue the task.

    Raises Problem and ExchangeError, and has queued nothing then.
    """
    checked = check(uploads, services.px, services.config, services.lifecycle, services.task_decoders)
    # `submit` decides; asking before saves storing the images of a task that will be refused.
    services.queue.require_room(key)
    blobs = services.blobs.put_many(upload.read() for upload in while_open(checked, services.lifecycle))
    samples = [Sample(blob, upload.label) for blob, upload in zip(blobs, checked, strict=True)]
    labels = [upload.label for upload in checked]
    return services.queue.submit(name or default_name(labels), samples, key).task
