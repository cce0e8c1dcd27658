#!lua flags=allow-oom
-- Removes acknowledged entries that are outside the replay window. Finding the bound and trimming are
-- one script: between two scripts a consumer could read entries and die.
-- The bound is that of our group alone. A group of somebody else is not asked: if nobody read it, the stream would grow
-- until Redis is full.
--
-- The window is counted from the acknowledgement. For that, samples are taken of the first entry that is not
-- acknowledged: what was acknowledged after the time of a sample is not before its entry. They are in a list, the
-- oldest first, as 'time id'. The entries before the newest sample that is as old as the window are removed. The oldest
-- sample that is left says since when everything that was acknowledged is still in the stream.
--
-- The window is not given up when memory is short: then publishers are refused first. So that it cannot fill the memory
-- by itself, its bytes are bounded by a share of it.
-- KEYS: stream, counts, window, replay   ARGV: group, replay window (ms), replay window (bytes), number of streams
-- Returns {number of removed entries, 1 when the counters disagreed and were corrected, 1 when a counter is lost and the
-- events have to be counted again}.
local stream, counts, samples, replay, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local window, max_bytes, streams = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local WINDOW_SHARE = 0.25 -- of maxmemory, for all streams; publishers stop accepting at 0.8
local SAMPLES = 64 -- about this many in a window

local function pairs_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

local function parse(id)
  local millis, sequence = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(millis), tonumber(sequence)
end

local function is_before(id, other)
  local millis, sequence = parse(id)
  local other_millis, other_sequence = parse(other)
  return millis < other_millis or (millis == other_millis and sequence < other_sequence)
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

-- The limit in bytes: a share of the server's memory where that is less.
local function limit_of_bytes()
  local info = redis.pcall('INFO', 'memory')
  local max = type(info) == 'string' and tonumber(string.match(info, 'maxmemory:(%d+)') or nil) or 0
  return max > 0 and math.min(max_bytes, WINDOW_SHARE * max / streams) or max_bytes
end

-- Trims everything before this id and returns the number of removed entries.
local trimmed_to = '0-0'
local function trim_to(id)
  local removed = redis.call('XTRIM', stream, 'MINID', '=', id)
  if removed > 0 then trimmed_to = id end
  return removed
end

-- Trims everything before the bound that is older than `from` (ms) and returns the number of removed entries.
local function trim_before(from, bound)
  local millis = parse(bound)
  return trim_to(from < millis and string.format('%.0f-0', from) or bound)
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
  local removed, newest, limit = 0, parse(bound), limit_of_bytes()
  for _ = 1, 16 do
    local bytes = window_bytes(fields)
    if bytes <= limit then return removed end
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local span = newest - parse(first[1])
    local retained = math.floor(span * limit / bytes)
    local trimmed = trim_before(retained > 0 and newest - retained or newest, bound)
    if trimmed == 0 and retained == 0 then return removed end
    removed = removed + trimmed
  end
  return removed
end

local function sample_at(index)
  local sample = redis.call('LINDEX', samples, index)
  if not sample then return nil end
  local millis, id = string.match(sample, '^(%d+) (.+)$')
  return tonumber(millis), id
end

-- Takes a sample, unless the last one is young. One that is from the future was taken before the clock was set back.
local function sample(now, bound)
  local last = sample_at(-1)
  if last and last > now then redis.call('DEL', samples) end
  if not last or last > now or now - last >= window / SAMPLES then
    redis.call('RPUSH', samples, string.format('%.0f %s', now, bound))
  end
end

-- Trims what was acknowledged before the window, and returns the number of removed entries.
local function trim_window(now, bound)
  while true do
    local second = sample_at(1)
    if not second or second > now - window then break end
    redis.call('LPOP', samples)
  end
  local oldest, id = sample_at(0)
  if not oldest or oldest > now - window then return 0 end
  return trim_to(is_before(id, bound) and id or bound)
end

-- Removes the samples before what was trimmed in this call: some of what was acknowledged after them is gone.
local function forget_samples(now, bound)
  while true do
    local oldest, id = sample_at(0)
    if not oldest then return redis.call('RPUSH', samples, string.format('%.0f %s', now, bound)) end
    if not is_before(id, trimmed_to) then return end
    redis.call('LPOP', samples)
  end
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
if redis.call('EXISTS', replay) == 1 then return {0, corrected, 0} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
sample(now, bound)
local removed = trim_window(now, bound)
removed = removed + shrink(fields, bound)
forget_samples(now, bound)
return {removed, corrected, 0}
