"""What a trainer does to the queue, as Lua; see `exchange.queue_lua`, whose `SHARED` stands before each."""

# Only one worker at a time has any business here, so whatever was delivered and is not held by this one is its to take:
# others that had it are dead or were superseded, and what it was given itself came in an answer that never arrived.
# What was being worked on under another lease is what its holder died or stalled at. That counts against the task; all
# else that a trainer holds, served or half learned, is not to blame.
# consumer, lease_token, task_prefix; held: the entries that it holds.
RECLAIM = """
if superseded() then return {'lost'} end
local marked = redis.call('HGETALL', working)
for i = 1, #marked, 2 do
  if marked[i + 1] ~= a.lease_token then
    local culprit = a.task_prefix .. marked[i]
    if redis.call('EXISTS', culprit) == 1 then redis.call('HINCRBY', culprit, 'deaths', 1) end
    redis.call('HDEL', working, marked[i])
  end
end
local held = {}
for _, entry in ipairs(a.held) do held[entry] = true end
local delivered = redis.pcall('XPENDING', queue, GROUP, '-', '+', 1000 + #a.held)
if delivered.err then return {'none'} end
for _, delivery in ipairs(delivered) do
  local entry = delivery[1]
  if not held[entry] then
    local claimed = redis.call('XCLAIM', queue, GROUP, a.consumer, 0, entry)
    if claimed[1] then return {'found', entry, claimed[1][2]} end
    remove(entry)
  end
end
return {'none'}
"""

# An order stays queued until it is carried out, and so can be cancelled although a trainer holds it.
# entry, consumer, lease_token, max_deaths, dead_letters.
TAKE = """
if superseded() then return {'lost'} end
local entry, most = a.entry, a.max_deaths
local name, deliveries = holder(entry)
if name ~= a.consumer then return {'skip'} end
local state, samples, last, deaths = unpack(redis.call('HMGET', task, 'state', 'samples', 'error', 'deaths'))
if not state or ENDED[state] or outdated(entry) then
  remove(entry)
  return {'skip'}
end
if tonumber(deaths or '0') >= most then
  local reason = 'its worker died or stalled ' .. most .. ' times while working on it'
  give_up(entry, last and reason .. '; last it said: ' .. last or reason)
  return {'skip'}
end
if state == 'queued' and redis.call('HEXISTS', task, 'change') == 0 then enter('learning') end
return {'taken', deliveries, state == 'forgetting' and '' or samples, record()}
"""

# What is worked on from now on, in place of what was: should the trainer die, that counts against these and no others.
# lease_token; tasks: their ids.
WORK_ON = """
if superseded() then return 0 end
redis.call('DEL', working)
for _, id in ipairs(a.tasks) do redis.call('HSET', working, id, a.lease_token) end
return 1
"""

# Of the claim.
FINISH = """
if whose() == 'theirs' then return {'lost'} end
remove(a.entry)
return {'ok'}
"""

# Of the claim; reason, dead_letters.
FAIL = """
local owner = whose()
if owner == 'theirs' then return {'lost'} end
if owner == 'mine' then give_up(a.entry, a.reason) end
return {'ok'}
"""

# An order that was begun may have been carried out, though nobody could say so: it must not be cancelled any more.
# Of the claim.
RELEASE = """
if whose() ~= 'mine' then return {'ok'} end
local state, change = unpack(redis.call('HMGET', task, 'state', 'change'))
if state == 'learning' and not change then enter('queued') end
if state == 'consolidating' then enter('served') end
return {'ok'}
"""

# consumer.
RETIRE_CONSUMER = """
local held = redis.pcall('XPENDING', queue, GROUP, '-', '+', 1, a.consumer)
if held.err or held[1] then return 0 end
redis.call('XGROUP', 'DELCONSUMER', queue, GROUP, a.consumer)
return 1
"""
