"""Records for tasks that a version knows and Redis does not: it was lost, or has dropped them as old ones."""

from collections.abc import Sequence

from exchange.fields import labels_to_field, read_fields, task_from_fields
from exchange.queue import TaskQueue
from exchange.queue_lua import ADOPT
from exchange.records import TaskRecord


def adopt(
    queue: TaskQueue, task_id: str, since: float, labels: Sequence[str] = (), images: int = 0
) -> TaskRecord:
    """The record of a task that was learned for good; made now if there is none, and then without a name.

    since: Unix seconds, no earlier than it was learned. Raises `ExchangeUnavailable`.
    """
    _, fields = queue.run(
        ADOPT, task_id, task=task_id, since=f"{since:.6f}", labels=labels_to_field(labels), images=images
    )
    return task_from_fields(read_fields(fields))
