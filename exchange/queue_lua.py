"""What the queue does in Redis all at once or not at all, as Lua. Redis runs one script at a time.

`TaskQueue.run` puts what they share before each. Each gets the same seven keys (queue, dead letters, index, the token
of the trainer's lease, what is worked on, the task's hash, its events) and one argument, a JSON object, here `a`:
`events` and `event_ttl_s` of the settings, and what the comment above the script names; "of the claim" are `entry`,
`consumer`, `deliveries` and `lease_token`. The client may send a script again when an answer is lost, so each must be
safe to run twice.
"""

from collections.abc import Iterable

from exchange.fields import FIXED_FIELDS, HIDDEN_FIELDS
from exchange.records import TaskState
from exchange.tasks import GROUP


def _set(names: Iterable[str]) -> str:
    """A Lua table that is true at each of these names."""
    return "{" + ", ".join(f"{name} = true" for name in sorted(names)) + "}"


SHARED = f"""
local GROUP = '{GROUP}'
local FIXED = {_set(FIXED_FIELDS | HIDDEN_FIELDS)}
local ENDED = {_set(state for state in TaskState if state.ended)}
local TAKEN_BACK = {_set(state for state in TaskState if state.taken_back)}
"""

SHARED += """
local queue, dead, index, lease_token, working, task, events = unpack(KEYS, 1, 7)
local a = cjson.decode(ARGV[1])
local REACHED = {served = true, consolidated = true, forgotten = true}

local function now()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

local function record()
  return redis.call('HGETALL', task)
end

local function announce()
  local time = now()
  redis.call('HSET', task, 'updated_at', time)
  local state = redis.call('HGET', task, 'state')
  if (state == 'served' or state == 'consolidated') and redis.call('HSETNX', task, 'served_at', time) == 1 then
    local waited = time - redis.call('HGET', task, 'created_at')
    redis.call('HSET', task, 'metric:seconds_to_fast', string.format('%.3f', waited))
  end
  if state == 'consolidated' then redis.call('HSETNX', task, 'consolidated_at', time) end
  local all, changing = record(), {}
  for i = 1, #all, 2 do
    if not FIXED[all[i]] then
      table.insert(changing, all[i])
      table.insert(changing, all[i + 1])
    end
  end
  redis.call('XADD', events, 'MAXLEN', a.events, '*', unpack(changing))
  redis.call('EXPIRE', events, a.event_ttl_s)
end

local function enter(state)
  redis.call('HSET', task, 'state', state)
  announce()
end

local function enqueue(id, samples)
  redis.pcall('XGROUP', 'CREATE', queue, GROUP, '0', 'MKSTREAM')  -- an error says that it is there already
  local entry = redis.call('XADD', queue, '*', 'task', id, 'samples', samples)
  redis.call('HSET', task, 'entry', entry)
end

local function remove(entry)
  redis.pcall('XACK', queue, GROUP, entry)
  redis.call('XDEL', queue, entry)
end

-- Who holds an entry, and how often it has been delivered by now: a consumer and a count, or nothing.
local function holder(entry)
  local found = redis.pcall('XPENDING', queue, GROUP, entry, entry, 1)
  if found.err or not found[1] then return nil, 0 end
  return found[1][2], tonumber(found[1][4])
end

-- Whether another trainer holds the lease by now: what was claimed under this one is its to take over.
local function superseded()
  return redis.call('GET', lease_token) ~= a.lease_token
end

-- Of the claim: 'mine', 'theirs' or, when it was acknowledged, 'gone'. The count tells two lives of a consumer apart.
local function whose()
  if superseded() then return 'theirs' end
  local name, count = holder(a.entry)
  if not name then return 'gone' end
  if name == a.consumer and count == a.deliveries then return 'mine' end
  return 'theirs'
end

local function bury(entry, reason)
  local id, samples = unpack(redis.call('HMGET', task, 'id', 'samples'))
  local letter = redis.call('XADD', dead, 'MAXLEN', a.dead_letters, '*', 'task', id, 'samples', samples)
  redis.call('HSET', task, 'dead', letter, 'error', reason)
  remove(entry)
  enter('failed')
end

-- Once a task is to be forgotten, whatever else the stream holds of it is not worth doing any more.
local function outdated(entry)
  local state, order = unpack(redis.call('HMGET', task, 'state', 'order'))
  return state == 'forgetting' and entry ~= order
end

-- Ends a delivery that came to nothing. A task that could not be forgotten becomes again what it was.
local function give_up(entry, reason)
  if outdated(entry) then return remove(entry) end
  local state, learned = unpack(redis.call('HMGET', task, 'state', 'consolidated_at'))
  if state ~= 'forgetting' or not learned then return bury(entry, reason) end
  redis.call('HSET', task, 'error', 'not forgotten: ' .. reason)
  remove(entry)
  enter('consolidated')
end
"""

# task, name, images, labels, samples: what is kept of the task. change: of an order, in JSON. capacity.
# digest, idempotency_ttl_s, task_prefix: with an idempotency key alone, whose own key comes eighth. It is free again
# once its task was taken back: who submits the same afterwards wants it learned.
SUBMIT = """
local idempotency = KEYS[8]
if redis.call('EXISTS', task) == 1 then return {'created', record()} end
if a.digest then
  local first, body = unpack(redis.call('HMGET', idempotency, 'task', 'digest'))
  local state = first and redis.call('HGET', a.task_prefix .. first, 'state')
  if state and not TAKEN_BACK[state] then
    if body ~= a.digest then return {'mismatch'} end
    return {'known', redis.call('HGETALL', a.task_prefix .. first)}
  end
end
if redis.call('XLEN', queue) >= a.capacity then return {'full'} end
local time = now()
redis.call('HSET', task, 'id', a.task, 'name', a.name, 'state', 'queued', 'images', a.images, 'labels', a.labels,
           'progress', '0', 'created_at', time, 'samples', a.samples)
if a.change then redis.call('HSET', task, 'change', a.change) end
redis.call('ZADD', index, time, a.task)
enqueue(a.task, a.samples)
if a.digest then
  redis.call('HSET', idempotency, 'task', a.task, 'digest', a.digest)
  redis.call('EXPIRE', idempotency, a.idempotency_ttl_s)
end
announce()
return {'created', record()}
"""

# changes: fields and their new values, all texts. Of the claim, if it is by a trainer.
UPDATE = """
local state = redis.call('HGET', task, 'state')
if not state and not a.entry then return {'missing'} end
-- A trainer's is gone where it was cancelled, and its record dropped as one of the oldest.
if a.entry and (not state or state == 'cancelled' or outdated(a.entry)) then return {'withdrawn'} end
if a.entry and whose() ~= 'mine' then return {'lost'} end
-- What went wrong on the way is no error of a task that got there.
if REACHED[a.changes.state] then redis.call('HDEL', task, 'error') end
for name, value in pairs(a.changes) do redis.call('HSET', task, name, value) end
announce()
return {'ok', record()}
"""

# A task that nobody was given yet is taken out, and so is an order that waits for its turn; one that no longer waits
# cannot be taken back. Any other task is forgotten by a trainer, which is told so by a stream entry of its own: as
# durable, and delivered as often, as a task to learn.
# task; again: whether one that was taken back before is forgotten too.
REMOVE = """
local state, entry, letter, change = unpack(redis.call('HMGET', task, 'state', 'entry', 'dead', 'change'))
if not state then return {'missing'} end
if state == 'queued' or state == 'failed' then
  remove(entry)
  if letter then redis.call('XDEL', dead, letter) end
  redis.call('HDEL', task, 'dead')
  enter('cancelled')
elseif change then
  if state ~= 'cancelled' then return {'given'} end
elseif state ~= 'forgetting' and (a.again or state ~= 'forgotten' and state ~= 'cancelled') then
  local order = redis.call('XADD', queue, '*', 'task', a.task, 'samples', '')
  redis.call('HSET', task, 'order', order)
  redis.call('HDEL', task, 'error', 'deaths')
  enter('forgetting')
end
return {'ok', record()}
"""

# task, labels, images, version: what is known of the task. since: Unix seconds, in place of every time.
ADOPT = """
if redis.call('EXISTS', task) == 0 then
  redis.call('HSET', task, 'id', a.task, 'name', '', 'state', 'consolidated', 'images', a.images, 'labels', a.labels,
             'version', a.version, 'progress', '1', 'samples', '')
  for _, name in ipairs({'created_at', 'served_at', 'consolidated_at'}) do redis.call('HSET', task, name, a.since) end
  redis.call('ZADD', index, a.since, a.task)
  announce()
end
return {'ok', record()}
"""

# capacity.
RETRY = """
local id, state, letter, samples = unpack(redis.call('HMGET', task, 'id', 'state', 'dead', 'samples'))
if not state then return {'missing'} end
if state == 'queued' then return {'ok', record()} end
if state ~= 'failed' or not letter then return {'no'} end
if redis.call('XLEN', queue) >= a.capacity then return {'full'} end
if redis.call('XDEL', dead, letter) == 0 then return {'no'} end  -- the oldest letters are dropped
redis.call('HDEL', task, 'dead', 'error', 'deaths', 'version', 'served_at', 'metric:seconds_to_fast')
redis.call('HSET', task, 'progress', '0')
enqueue(id, samples)
enter('queued')
return {'ok', record()}
"""

# Nothing more.
DROP = """
local id, state, letter = unpack(redis.call('HMGET', task, 'id', 'state', 'dead'))
if not ENDED[state] then return 0 end
if letter then redis.call('XDEL', dead, letter) end
redis.call('DEL', task, events)
redis.call('ZREM', index, id)
return 1
"""
