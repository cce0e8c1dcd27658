#!lua flags=allow-oom
-- Forgets the marks of workers that acknowledged nothing for long enough. While a replay is pending they are needed.
-- KEYS: marks, replay   ARGV: age (s), worker*
-- Returns how many are forgotten.
local marks, replay, age = KEYS[1], KEYS[2], tonumber(ARGV[1])
local forgotten = 0
if redis.call('EXISTS', replay) == 1 then return forgotten end
local now = tonumber(redis.call('TIME')[1])
for i = 2, #ARGV do
  local seconds = string.match(redis.call('HGET', marks, ARGV[i]) or '', ' (%d+)$')
  if seconds and now - tonumber(seconds) > age then
    redis.call('HDEL', marks, ARGV[i])
    forgotten = forgotten + 1
  end
end
return forgotten
