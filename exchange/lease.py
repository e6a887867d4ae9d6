"""One trainer at a time: whoever holds the lease may publish, and a newer holder fences out an older one."""

import secrets

from redis import Redis

from exchange.connection import reaching_redis
from exchange.errors import LeaseLost
from exchange.redis_keys import DEFAULT_PREFIX, Keys

# A token is random, not a count: a Redis that lost its data, or the newest of it, would give the same count out again.
# The same request sent twice is one acquisition, since the answer to the first may have been lost.
# The third argument is the token that the same trainer had last; "" for none. Where that could not be released it is
# replaced at once, so whatever is still held under it is fenced out like anybody else's. What was worked on under it
# counts against no task: that trainer has survived, and Redis alone was away.
_ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] and holder ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
local marked = redis.call('HGETALL', KEYS[3])
for i = 1, #marked, 2 do
  if marked[i + 1] == ARGV[3] then redis.call('HDEL', KEYS[3], marked[i]) end
end
return 1
"""

# A holder whose time ran out may go on if nobody else has come meanwhile.
_RENEW = """
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
return 1
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class Lease:
    """The right to publish. Every method raises `ExchangeUnavailable` when Redis cannot be reached.

    Redis keeps a lease while it is restarted. One that could not be released meanwhile, or whose acquisition was not
    answered, does not keep the trainer that asked waiting for itself.
    """

    def __init__(self, redis: Redis, prefix: str = DEFAULT_PREFIX, ttl_s: float = 15.0) -> None:
        self.redis, self.ttl_s = redis, ttl_s
        keys = Keys(prefix)
        self._keys = [keys.lease, keys.lease_token, keys.working]
        self._asked: int | None = None
        self._last: int | None = None

    def acquire(self) -> int | None:
        """The token to renew and to publish with; None while another trainer holds the lease."""
        self._asked = token = secrets.randbits(62) if self._asked is None else self._asked
        last = "" if self._last is None else self._last
        with reaching_redis():
            acquired = self.redis.eval(_ACQUIRE, 3, *self._keys, self._ttl_ms(), token, last)
        self._asked = None
        if not acquired:
            return None
        self._last = token
        return token

    def renew(self, token: int) -> None:
        """Holds the lease for another `ttl_s` seconds. Raises `LeaseLost`."""
        with reaching_redis():
            renewed = self.redis.eval(_RENEW, 3, *self._keys, self._ttl_ms(), token)
        if not renewed:
            raise LeaseLost("another trainer holds the lease")

    def release(self, token: int) -> None:
        """Lets the next trainer in at once; this one, when it next acquires, even if Redis cannot be reached now."""
        with reaching_redis():
            self.redis.eval(_RELEASE, 3, *self._keys, token)

    def _ttl_ms(self) -> int:
        return int(self.ttl_s * 1000)
