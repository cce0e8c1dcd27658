#!lua flags=allow-oom
-- Removes acknowledged entries that are outside the replay window. Finding the bound and trimming are
-- one script: between two scripts a consumer could read entries and die.
-- The bound is that of our group alone. A group of somebody else is not asked: if nobody read it, the stream would grow
-- until Redis is full.
-- KEYS: stream, counts   ARGV: group, replay window (ms), replay window (bytes)
-- Returns {number of removed entries, 1 when the counters disagreed and were corrected, 1 when a counter is lost and the
-- events have to be counted again}.
local stream, counts, group = KEYS[1], KEYS[2], ARGV[1]
local window, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local MEMORY_SHORT = 0.75 -- of maxmemory: lower than the share at which publishers stop accepting

local function pairs_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

local function parse(id)
  local millis, sequence = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(millis), tonumber(sequence)
end

local function our_group()
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then return nil end
  for _, flat in ipairs(groups) do
    local fields = pairs_of(flat)
    if fields.name == group then return fields end
  end
end

-- The first id that must stay: the oldest pending one, else the one after the last delivered.
local function bound_of(fields)
  if fields.pending > 0 then return redis.call('XPENDING', stream, group)[2] end
  local millis, sequence = parse(fields['last-delivered-id'])
  if sequence >= 2 ^ 53 - 1 then return fields['last-delivered-id'] end
  return string.format('%.0f-%.0f', millis, sequence + 1)
end

local function memory_is_short()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return false end
  local used, max = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
  return used and max and tonumber(max) > 0 and tonumber(used) > MEMORY_SHORT * tonumber(max)
end

-- Trims everything before the bound that is older than `from` (ms) and returns the number of removed entries.
local function trim_before(from, bound)
  local millis = parse(bound)
  local first_retained = from < millis and string.format('%.0f-0', from) or bound
  return redis.call('XTRIM', stream, 'MINID', '=', first_retained)
end

-- The memory of the acknowledged entries, estimated as their share of the stream's memory.
local function window_bytes(fields)
  local length = redis.call('XLEN', stream)
  if length == 0 then return 0 end
  local acknowledged = length - fields.pending - (fields.lag or 0)
  return redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', 50) * math.max(acknowledged, 0) / length
end

-- Shrinks the window in proportion until it fits. It takes a few steps, because entries differ in size.
local function shrink(fields, bound)
  local removed, newest = 0, parse(bound)
  for _ = 1, 16 do
    local bytes = window_bytes(fields)
    if bytes <= max_bytes then return removed end
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local span = newest - parse(first[1])
    local retained = math.floor(span * max_bytes / bytes)
    local trimmed = trim_before(retained > 0 and newest - retained or newest, bound)
    if trimmed == 0 and retained == 0 then return removed end
    removed = removed + trimmed
  end
  return removed
end

-- When no entry is pending or undelivered, the counters must be equal. They differ when somebody removed
-- entries by hand, and without a correction the backlog would stay wrong.
local function correct_counters(fields)
  if fields.pending > 0 then return 0 end
  if #redis.call('XRANGE', stream, '(' .. fields['last-delivered-id'], '+', 'COUNT', 1) > 0 then return 0 end
  local count = redis.call('HMGET', counts, 'appended', 'acknowledged')
  local appended, acknowledged = tonumber(count[1] or nil), tonumber(count[2] or '0')
  if appended == acknowledged or (not appended and redis.call('XLEN', stream) == 0) then return 0 end
  local agreed = math.max(appended or 0, acknowledged, 1)
  redis.call('HSET', counts, 'appended', agreed, 'acknowledged', agreed)
  if not appended then
    redis.call('HSET', counts, 'counted_again', 1)
    redis.call('HDEL', counts, 'recount_after', 'recount_events')
  end
  return 1
end

-- Whether the events have to be counted again (recount.lua). Until that is done nothing may be removed.
local function is_lost()
  return redis.call('HEXISTS', counts, 'appended') == 0 and redis.call('XLEN', stream) > 0
end

local fields = our_group()
if not fields then return {0, 0, 0} end
local bound = bound_of(fields)
local corrected = correct_counters(fields)
if is_lost() then return {0, corrected, 1} end
if window == 0 or memory_is_short() then return {redis.call('XTRIM', stream, 'MINID', '=', bound), corrected, 0} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local removed = trim_before(now - window, bound)
return {removed + shrink(fields, bound), corrected, 0}
