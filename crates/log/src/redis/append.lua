#!lua
-- Appends an entry. If one of its requests reuses a key with another body, nothing is written.
-- KEYS: stream, counts, key record*
-- ARGV: number of events, packed entry, time to live of the key records (ms), body hash*
-- Returns {0, backlog in events or false} or {1, index from 0 of each request that reuses a key}.
local stream, counts = KEYS[1], KEYS[2]
local events, entry, ttl = ARGV[1], ARGV[2], ARGV[3]

local reused, body_of = {1}, {}
for i = 3, #KEYS do
  local hash = ARGV[i + 1]
  local recorded = body_of[KEYS[i]] or redis.call('GET', KEYS[i])
  if recorded and recorded ~= hash then
    reused[#reused + 1] = i - 3
  else
    body_of[KEYS[i]] = hash
  end
end
if #reused > 1 then return reused end

for record, hash in pairs(body_of) do redis.call('SET', record, hash, 'PX', ttl) end
redis.call('XADD', stream, '*', 'e', entry, 'n', events)
local appended = redis.call('HINCRBY', counts, 'appended', events)
if appended == tonumber(events) and redis.call('XLEN', stream) > 1 then
  -- The counter was lost but the stream was not: the backlog is unknown until it is counted again.
  redis.call('HDEL', counts, 'appended')
  return {0, false}
end
local acknowledged = tonumber(redis.call('HGET', counts, 'acknowledged') or '0')
return {0, math.max(appended - acknowledged, 0)}
