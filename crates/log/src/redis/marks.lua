#!lua flags=no-writes,allow-oom
-- Returns what one stream remembers of commits: {marks: (worker, 'number seconds')*, fields of the pending replay,
-- the oldest sample of the window or false, the time in ms}.
-- KEYS: marks, replay, window
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local first = redis.call('LINDEX', KEYS[3], 0)
return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), first, now}
