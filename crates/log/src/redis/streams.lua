#!lua flags=allow-oom
-- Raises the highest number of streams ever used, and returns it.
-- KEYS: streams   ARGV: the number of streams in use now
local highest = tonumber(redis.call('GET', KEYS[1]) or '0')
local now = tonumber(ARGV[1])
if now > highest then
  redis.call('SET', KEYS[1], now)
  return now
end
return highest
