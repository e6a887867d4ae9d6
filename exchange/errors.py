"""Everything that can go wrong between trainer and service, by name."""

import re

_FOLDERS = re.compile(r"""(?<![\w.])/(?:[^/\n"':]+/)*""")
"""Of an absolute path in a text, all but the last name."""


class ExchangeError(Exception):
    """Base of every error this package raises on purpose."""


class ExchangeUnavailable(ExchangeError):
    """Redis cannot be reached, is still loading, changes hands, or refuses writes. Trying again later may help.

    told: what clients of the service read instead of a message that names where Redis is, which is for operators.
    """

    def __init__(self, message: str, told: str | None = None) -> None:
        super().__init__(message)
        self.told = told or message


class StoreUnavailable(ExchangeError):
    """The store directory cannot be written: full disk, read-only mount, missing rights."""


class QueueFull(ExchangeError):
    """The queue holds as many unfinished tasks as its capacity allows."""


class IdempotencyMismatch(ExchangeError):
    """The idempotency key was used before, for another task."""


class IdempotencyInFlight(ExchangeError):
    """Another request with the same idempotency key is being handled right now."""


class TaskNotFound(ExchangeError):
    """No task has this id."""


class TaskWithdrawn(ExchangeError):
    """The task is to be forgotten: whoever learns it drops it and says nothing more about it."""


class OrderGiven(ExchangeError):
    """An order to rename or forget a class cannot be cancelled: it is being carried out, or was."""


class NotRetryable(ExchangeError):
    """The task is not among the dead letters, or an order."""


class LeaseLost(ExchangeError):
    """Another worker has taken over: whoever gets this must drop its work and publish nothing."""


class VersionError(ExchangeError):
    """Base of what keeps anybody from telling what a version is."""


class VersionNotFound(VersionError):
    """No published version has this number, or it has no file in this role."""


class VersionCorrupt(VersionError):
    """A manifest cannot be read, or a file differs from what its manifest promises."""


class VersionUnreadable(VersionError):
    """The disk does not give a file of a version, or not yet. Unlike damage, this may pass by itself."""


class BackboneChanged(ExchangeError):
    """What was learned was learned on another backbone; the message names both."""


class LoopChanged(ExchangeError):
    """What was learned was learned with other settings of the loop; the message names them."""


class PointerMoved(ExchangeError):
    """The pointer was not where the caller expected it: somebody else published or activated first."""


class NotCanary(ExchangeError):
    """A version is not the canary, so that it cannot end as one, or cannot be: it is the one served."""


class PeerSilent(ExchangeError):
    """A process that was there a moment ago does not answer a question. It may be busy, or have died since."""


class BlobMissing(ExchangeError):
    """The store holds no blob with this hash."""


class BlobCorrupt(ExchangeError):
    """A stored blob does not have the hash it is stored under."""


class BlobUnreadable(ExchangeError):
    """The disk does not give a blob. Unlike damage, this may pass by itself."""


def told_of(error: Exception) -> str:
    """What clients of the service read of an error: not where Redis or a file is, which is for operators.

    The messages of this package name no place. Those of others may, in words of their own.
    """
    if isinstance(error, ExchangeError):
        return error.told if isinstance(error, ExchangeUnavailable) else str(error)
    said = error.strerror if isinstance(error, OSError) else None
    return said or _FOLDERS.sub("", str(error)) or type(error).__name__
