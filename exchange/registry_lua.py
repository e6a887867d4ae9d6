"""What the registry does in Redis all at once, as Lua. Each script bears being sent twice."""

# The next version number: above all that were given out and above `ARGV[1]`, the highest on disk.
NUMBER = """
local number = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1])) + 1
redis.call('SET', KEYS[1], number)
return number
"""

# Stands before each that `Registry._run` runs.
SHARED = """
local pointer, published, lease_token, canary, lost, done = unpack(KEYS)
local version = ARGV[1]
local current = redis.call('GET', pointer) or ''

local function move()
  redis.call('ZADD', published, version, version)
  redis.call('SET', pointer, version)
  redis.call('PUBLISH', pointer, version)
  return {'ok'}
end

-- What somebody asked for and got is not done once more when it is sent again: others may have asked for more since.
local function was_done()
  return redis.call('EXISTS', done) == 1
end

local function note_done()
  redis.call('SET', done, '', 'EX', 60)
  return {'ok'}
end
"""

# A published version stays published, wherever the pointer has been moved since. One that is older than one published
# meanwhile is refused even if the pointer is back where it was: its files may have been taken for leftovers.
PUBLISH = """
local expected, token = ARGV[2], ARGV[3]
if redis.call('ZSCORE', published, version) then return {'ok'} end
if token ~= '' and redis.call('GET', lease_token) ~= token then return {'lost'} end
local newest = redis.call('ZREVRANGE', published, 0, 0)[1]
if current ~= expected or (newest and tonumber(newest) > tonumber(version)) then return {'moved', current} end
return move()
"""

ACTIVATE = """
if was_done() then return {'ok'} end
if not redis.call('ZSCORE', published, version) then return {'unknown'} end
if redis.call('HGET', canary, 'version') == version then redis.call('DEL', canary) end  -- promoted
if current ~= version then move() end
return note_done()
"""

# The canary beside the version that is served, which would stay behind as the canary of whatever is taught next.
# A share of nothing ends it.
SET_CANARY = """
local share = ARGV[2]
if was_done() then return {'ok'} end
if not redis.call('ZSCORE', published, version) then return {'unknown'} end
if tonumber(share) > 0 then
  if current == version then return {'served'} end
  redis.call('HSET', canary, 'version', version, 'share', share)
  return note_done()
end
local tried = redis.call('HGET', canary, 'version')
if tried and tried ~= version then return {'other', tried} end
redis.call('DEL', canary)
return note_done()
"""

# The other versions found on disk follow in ARGV.
RECOVER = """
if current ~= '' then return {'ok'} end
redis.call('SET', lost, string.format('%d.%06d', unpack(redis.call('TIME'))))
for i = 2, #ARGV do redis.call('ZADD', published, ARGV[i], ARGV[i]) end
return move()
"""

# Takes versions out of the history, unless what is served or the canary is no longer what it was when they were chosen:
# one of them may be needed now.
RETIRE = """
local pointer, published, canary, current, tried = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
if (redis.call('GET', pointer) or '') ~= current then return {} end
if (redis.call('HGET', canary, 'version') or '') ~= tried then return {} end
local retired = {}
for i = 3, #ARGV do
  redis.call('ZREM', published, ARGV[i])
  table.insert(retired, ARGV[i])
end
return retired
"""
