"""Names of all keys in Redis, and what is kept under each."""

import hashlib
from dataclasses import dataclass

DEFAULT_PREFIX = "hippotune"


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of all keys of one installation."""

    prefix: str = DEFAULT_PREFIX

    @property
    def queue(self) -> str:
        """Stream of unfinished tasks."""
        return f"{self.prefix}:queue"

    @property
    def working(self) -> str:
        """Hash: the tasks being worked on right now, by id, and the token of the lease under which they are."""
        return f"{self.prefix}:working"

    @property
    def dead(self) -> str:
        """Stream of failed tasks that can be tried again."""
        return f"{self.prefix}:dead"

    @property
    def tasks(self) -> str:
        """Sorted set of task ids by the time they were accepted."""
        return f"{self.prefix}:tasks"

    def task(self, task_id: str) -> str:
        """Hash: the record of a task."""
        return f"{self.prefix}:task:{task_id}"

    def events(self, task_id: str) -> str:
        """Stream: what happened to a task."""
        return f"{self.prefix}:events:{task_id}"

    def idempotency(self, key: str) -> str:
        """Hash: the task that an idempotency key made. Hashed, as the key is whatever a client sent."""
        return f"{self.prefix}:idempotency:{hashlib.sha256(key.encode()).hexdigest()}"

    def handling(self, key: str) -> str:
        """String: set while a request with this idempotency key is being handled."""
        return f"{self.prefix}:handling:{hashlib.sha256(key.encode()).hexdigest()}"

    def relay(self, name: str) -> str:
        """List: questions to the process of this name, or the answer to one."""
        return f"{self.prefix}:relay:{name}"

    def presence(self, name: str) -> str:
        """String: set while the process of this name answers questions."""
        return f"{self.prefix}:presence:{name}"

    @property
    def pointer(self) -> str:
        """String: the version to serve. Also the channel that says it moved."""
        return f"{self.prefix}:version"

    @property
    def canary(self) -> str:
        """Hash: the version that a share of the requests is answered by, and that share."""
        return f"{self.prefix}:canary"

    @property
    def published(self) -> str:
        """Sorted set of the versions that were ever pointed at, or found on disk, by number."""
        return f"{self.prefix}:published"

    def done(self, request: str) -> str:
        """String: set for a minute once an activation, or a change of the canary, of this name was carried out."""
        return f"{self.prefix}:done:{request}"

    @property
    def lost(self) -> str:
        """String: when a store with versions was found beside a Redis without, Unix seconds by the clock of Redis."""
        return f"{self.prefix}:lost"

    @property
    def sequence(self) -> str:
        """Counter: the highest version number given out."""
        return f"{self.prefix}:sequence"

    @property
    def lease(self) -> str:
        """String: the token of the trainer that works, while it does."""
        return f"{self.prefix}:lease"

    @property
    def lease_token(self) -> str:
        """String: the newest token given out."""
        return f"{self.prefix}:lease-token"
