#!lua flags=no-writes,allow-oom
-- Returns the backlog of one stream for the group.
-- KEYS: stream, counts   ARGV: group
-- Returns {appended or false, acknowledged or false, entries, lag or false, pending,
--          age of the oldest entry in ms or false}.
local stream, counts, group = KEYS[1], KEYS[2], ARGV[1]

local length = redis.call('XLEN', stream)
local lag, pending = length, 0 -- without a group no entry was delivered
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if not groups.err then
  for _, flat in ipairs(groups) do
    local fields = {}
    for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
    if fields.name == group then lag, pending = fields.lag or false, fields.pending end
  end
end

local age = false
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if first then
  local time = redis.call('TIME')
  age = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 - tonumber(string.match(first[1], '^%d+'))
end
local count = redis.call('HMGET', counts, 'appended', 'acknowledged')
return {count[1], count[2], length, lag, pending, age and math.max(age, 0)}
