#!lua
-- Appends an entry. If one of its requests reuses a key with another body, nothing is written.
--
-- The records of keys are in two hashes, a newer and an older one: key → body hash. New records go to the newer one.
-- When it has existed for the time to live, or has too many records, it becomes the older one, and what was the older
-- one is removed. So a record stays for at least the time to live after its last use, if there is enough room.
-- KEYS: stream, counts, newer key records, older key records
-- ARGV: number of events, packed entry, time to live of the key records (ms), maximum number of records in each hash,
--       (key, body hash)*
-- Returns {0, backlog in events or false, number of records removed for want of room, id of the entry} or {1, index from
-- 0 of each request that reuses a key}.
local stream, counts, newer, older = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local events, entry, ttl, max_records = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local FIRST = 5 -- the first key in ARGV
local BEGAN = 'began' -- the field with the time at which a hash was created; no key has its length

local reused, body_of = {1}, {}
for i = FIRST, #ARGV, 2 do
  local key, hash = ARGV[i], ARGV[i + 1]
  local recorded = body_of[key] or redis.call('HGET', newer, key) or redis.call('HGET', older, key)
  if recorded and recorded ~= hash then
    reused[#reused + 1] = (i - FIRST) / 2
  else
    body_of[key] = hash
  end
end
if #reused > 1 then return reused end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local began = tonumber(redis.call('HGET', newer, BEGAN) or nil)
local dropped = 0
local full = began and redis.call('HLEN', newer) + (#ARGV - FIRST + 1) / 2 > max_records
if began and (full or now - began >= ttl) then
  if full then dropped = math.max(redis.call('HLEN', older) - 1, 0) end
  redis.call('UNLINK', older) -- RENAME would free it at once, during which the server answers nobody
  redis.call('RENAME', newer, older)
  began = nil
end
if not began then
  redis.call('HSET', newer, BEGAN, now)
  redis.call('PEXPIRE', newer, 2 * ttl)
end
for key, hash in pairs(body_of) do redis.call('HSET', newer, key, hash) end

local id = redis.call('XADD', stream, '*', 'e', entry, 'n', events)
local appended = redis.call('HINCRBY', counts, 'appended', events)
if appended == tonumber(events) and redis.call('XLEN', stream) > 1 then
  -- The counter was lost but the stream was not: the backlog is unknown until it is counted again.
  redis.call('HDEL', counts, 'appended')
  return {0, false, dropped, id}
end
local acknowledged = tonumber(redis.call('HGET', counts, 'acknowledged') or '0')
return {0, math.max(appended - acknowledged, 0), dropped, id}
