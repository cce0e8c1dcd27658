#!lua
-- Appends an entry, unless one of its requests reuses a key with another body: then writes nothing.
-- KEYS: stream, counts, key record*
-- ARGV: number of events, packed entry, how long to keep the records (ms), body hash*
-- Answers {0, backlog in events or false} or {1, index from 0 of each request that reuses a key}.
local stream, counts = KEYS[1], KEYS[2]
local events, entry, keep = ARGV[1], ARGV[2], ARGV[3]

local reused, seen = {1}, {}
for i = 3, #KEYS do
  local hash = ARGV[i + 1]
  local known = seen[KEYS[i]] or redis.call('GET', KEYS[i])
  if known and known ~= hash then
    reused[#reused + 1] = i - 3
  else
    seen[KEYS[i]] = hash
  end
end
if #reused > 1 then return reused end

for record, hash in pairs(seen) do redis.call('SET', record, hash, 'PX', keep) end
redis.call('XADD', stream, '*', 'e', entry, 'n', events)
local appended = redis.call('HINCRBY', counts, 'appended', events)
if appended == tonumber(events) and redis.call('XLEN', stream) > 1 then
  -- The counter was lost while the stream was not: unknown, until it is counted anew.
  redis.call('HDEL', counts, 'appended')
  return {0, false}
end
local acknowledged = tonumber(redis.call('HGET', counts, 'acknowledged') or '0')
return {0, math.max(appended - acknowledged, 0)}
