"""What the queue does in Redis all at once or not at all, as Lua. Redis runs one script at a time.

`TaskQueue.run` puts what they share before each. Each gets the same five keys (queue, dead letters, index, the task's
hash, its events) and, first among its arguments, how many events to keep and for how many seconds. The client may send
a script again when an answer is lost, so each must be safe to run twice.
"""

SHARED = """
local queue, dead, index, task, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_count, event_ttl = ARGV[1], ARGV[2]
local GROUP = 'trainers'
local FIXED = {id = 1, name = 1, images = 1, labels = 1, created_at = 1, samples = 1, entry = 1, dead = 1, order = 1}
local REACHED = {served = 1, consolidated = 1, forgotten = 1}
local ENDED = {consolidated = 1, failed = 1, cancelled = 1, forgotten = 1}

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
  if state == 'served' or state == 'consolidated' then redis.call('HSETNX', task, 'served_at', time) end
  if state == 'consolidated' then redis.call('HSETNX', task, 'consolidated_at', time) end
  local all, changing = record(), {}
  for i = 1, #all, 2 do
    if not FIXED[all[i]] then
      table.insert(changing, all[i])
      table.insert(changing, all[i + 1])
    end
  end
  redis.call('XADD', events, 'MAXLEN', event_count, '*', unpack(changing))
  redis.call('EXPIRE', events, event_ttl)
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

-- 'mine', 'theirs' or, when it was acknowledged, 'gone'. The count tells two lives of one consumer apart.
local function whose(entry, consumer, deliveries)
  local name, count = holder(entry)
  if not name then return 'gone' end
  if name == consumer and count == tonumber(deliveries) then return 'mine' end
  return 'theirs'
end

local function bury(entry, reason, most)
  local id, samples = unpack(redis.call('HMGET', task, 'id', 'samples'))
  local letter = redis.call('XADD', dead, 'MAXLEN', most, '*', 'task', id, 'samples', samples)
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
local function give_up(entry, reason, most)
  if outdated(entry) then return remove(entry) end
  local state, learned = unpack(redis.call('HMGET', task, 'state', 'consolidated_at'))
  if state ~= 'forgetting' or not learned then return bury(entry, reason, most) end
  redis.call('HSET', task, 'error', 'not forgotten: ' .. reason)
  remove(entry)
  enter('consolidated')
end
"""

SUBMIT = """
local idempotency, task_prefix = KEYS[6], ARGV[11]
local id, name, images, labels, samples = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local capacity, digest, ttl = tonumber(ARGV[8]), ARGV[9], ARGV[10]
if redis.call('EXISTS', task) == 1 then return {'created', record()} end
if digest ~= '' then
  local first, body = unpack(redis.call('HMGET', idempotency, 'task', 'digest'))
  local known = first and redis.call('HGETALL', task_prefix .. first) or {}
  if #known > 0 then
    if body ~= digest then return {'mismatch'} end
    return {'known', known}
  end
end
if redis.call('XLEN', queue) >= capacity then return {'full'} end
local time = now()
redis.call('HSET', task, 'id', id, 'name', name, 'state', 'queued', 'images', images, 'labels', labels,
           'progress', '0', 'created_at', time, 'samples', samples)
redis.call('ZADD', index, time, id)
enqueue(id, samples)
if digest ~= '' then
  redis.call('HSET', idempotency, 'task', id, 'digest', digest)
  redis.call('EXPIRE', idempotency, ttl)
end
announce()
return {'created', record()}
"""

# Like XAUTOCLAIM, except that a worker is not handed what it holds: after an outage in which it could not renew its
# claims, XAUTOCLAIM would give it the same ones again. An entry of its own that it does not hold is handed out: it was
# delivered in an answer that never arrived.
RECLAIM = """
local consumer, lease_ms, held = ARGV[3], ARGV[4], {}
for i = 5, #ARGV do held[ARGV[i]] = 1 end
local idle = redis.pcall('XPENDING', queue, GROUP, 'IDLE', lease_ms, '-', '+', 1000)
if idle.err then return nil end
for _, pending in ipairs(idle) do
  local entry = pending[1]
  if pending[2] ~= consumer or not held[entry] then
    local claimed = redis.call('XCLAIM', queue, GROUP, consumer, lease_ms, entry)
    if claimed[1] then return {entry, claimed[1][2]} end
    remove(entry)
  end
end
return nil
"""

# A worker also holds tasks that are served already and wait to be consolidated. When the one it is learning kills it,
# those that wait are not to blame, so their delivery is not counted: otherwise one poison task would take all its
# neighbours to the dead letters.
TAKE = """
local entry, consumer, most, dead_count = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local name, deliveries = holder(entry)
if name ~= consumer then return {'skip'} end
local state, samples, last = unpack(redis.call('HMGET', task, 'state', 'samples', 'error'))
if not state or ENDED[state] or outdated(entry) then
  remove(entry)
  return {'skip'}
end
if state == 'served' and deliveries > 1 then
  deliveries = deliveries - 1
  redis.call('XCLAIM', queue, GROUP, consumer, 0, entry, 'RETRYCOUNT', deliveries, 'JUSTID')
end
if deliveries > most then
  local reason = 'its worker died or stalled ' .. most .. ' times while working on it'
  give_up(entry, last and reason .. '; last it said: ' .. last or reason, dead_count)
  return {'skip'}
end
if state == 'queued' then enter('learning') end
return {'taken', deliveries, state == 'forgetting' and '' or samples, record()}
"""

UPDATE = """
local entry, consumer, deliveries = ARGV[3], ARGV[4], ARGV[5]
if redis.call('EXISTS', task) == 0 then return {'missing'} end
if entry ~= '' and outdated(entry) then return {'withdrawn'} end
if entry ~= '' and whose(entry, consumer, deliveries) ~= 'mine' then return {'lost'} end
for i = 6, #ARGV, 2 do
  -- What went wrong on the way is no error of a task that got there.
  if ARGV[i] == 'state' and REACHED[ARGV[i + 1]] then redis.call('HDEL', task, 'error') end
end
for i = 6, #ARGV, 2 do redis.call('HSET', task, ARGV[i], ARGV[i + 1]) end
announce()
return {'ok', record()}
"""

HEARTBEAT = """
local entry, consumer, deliveries = ARGV[3], ARGV[4], ARGV[5]
local owner = whose(entry, consumer, deliveries)
if owner == 'theirs' then return {'lost'} end
if owner == 'mine' then redis.call('XCLAIM', queue, GROUP, consumer, 0, entry, 'JUSTID') end
return {'ok'}
"""

FINISH = """
local entry, consumer, deliveries = ARGV[3], ARGV[4], ARGV[5]
if whose(entry, consumer, deliveries) == 'theirs' then return {'lost'} end
remove(entry)
return {'ok'}
"""

FAIL = """
local entry, consumer, deliveries, reason, dead_count = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local owner = whose(entry, consumer, deliveries)
if owner == 'theirs' then return {'lost'} end
if owner == 'mine' then give_up(entry, reason, dead_count) end
return {'ok'}
"""

RELEASE = """
local entry, consumer, deliveries, idle_ms = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if whose(entry, consumer, deliveries) ~= 'mine' then return {'ok'} end
redis.call('XCLAIM', queue, GROUP, consumer, 0, entry,
           'IDLE', idle_ms, 'RETRYCOUNT', deliveries - 1, 'JUSTID')
local state = redis.call('HGET', task, 'state')
if state == 'learning' then enter('queued') end
if state == 'consolidating' then enter('served') end
return {'ok'}
"""

# A task that nobody was given yet is taken out; one that was is forgotten by a trainer, which gets the order as a
# stream entry of its own: as durable, and delivered as often, as a task to learn.
# With 'again', so is one that was taken back before.
REMOVE = """
local state, entry, letter = unpack(redis.call('HMGET', task, 'state', 'entry', 'dead'))
if not state then return {'missing'} end
if state == 'queued' or state == 'failed' then
  remove(entry)
  if letter then redis.call('XDEL', dead, letter) end
  redis.call('HDEL', task, 'dead')
  enter('cancelled')
elseif state ~= 'forgetting' and (ARGV[4] == 'again' or state ~= 'forgotten' and state ~= 'cancelled') then
  local order = redis.call('XADD', queue, '*', 'task', ARGV[3], 'samples', '')
  redis.call('HSET', task, 'order', order)
  redis.call('HDEL', task, 'error')
  enter('forgetting')
end
return {'ok', record()}
"""

RETRY = """
local capacity = tonumber(ARGV[3])
local id, state, letter, samples = unpack(redis.call('HMGET', task, 'id', 'state', 'dead', 'samples'))
if not state then return {'missing'} end
if state == 'queued' then return {'ok', record()} end
if state ~= 'failed' or not letter then return {'no'} end
if redis.call('XLEN', queue) >= capacity then return {'full'} end
if redis.call('XDEL', dead, letter) == 0 then return {'no'} end  -- the oldest letters are dropped
redis.call('HDEL', task, 'dead', 'error')
redis.call('HSET', task, 'progress', '0')
enqueue(id, samples)
enter('queued')
return {'ok', record()}
"""

DROP = """
local id, state, letter = unpack(redis.call('HMGET', task, 'id', 'state', 'dead'))
if not ENDED[state] then return 0 end
if letter then redis.call('XDEL', dead, letter) end
redis.call('DEL', task, events)
redis.call('ZREM', index, id)
return 1
"""

RETIRE_CONSUMER = """
local held = redis.pcall('XPENDING', queue, GROUP, '-', '+', 1, ARGV[3])
if held.err or held[1] then return 0 end
redis.call('XGROUP', 'DELCONSUMER', queue, GROUP, ARGV[3])
return 1
"""
