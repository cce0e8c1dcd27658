#!lua flags=allow-oom
-- Removes what is acknowledged, but for the replay window. Finding the bound and trimming are one
-- script: between the two a consumer could take entries and die.
-- KEYS: stream, counts   ARGV: group, replay window (ms), replay window (bytes)
-- Answers {entries removed, 1 when the counters were out of step and are set right}.
local stream, counts, group = KEYS[1], KEYS[2], ARGV[1]
local window, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local MEMORY_SHORT = 0.75 -- of maxmemory: below where publishers stop accepting

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

-- The first id that must stay: the oldest pending, else the one behind the last delivered.
local function bound_of(fields)
  if fields.pending > 0 then return redis.call('XPENDING', stream, group)[2] end
  local millis, sequence = parse(fields['last-delivered-id'])
  if sequence >= 2 ^ 53 - 1 then return fields['last-delivered-id'] end
  return string.format('%.0f-%.0f', millis, sequence + 1)
end

local function memory_is_short()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return false end
  local used, most = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
  return used and most and tonumber(most) > 0 and tonumber(used) > MEMORY_SHORT * tonumber(most)
end

-- Trims everything before the bound that is older than `from` (ms); answers how many went.
local function trim_before(from, bound)
  local millis = parse(bound)
  local first_kept = from < millis and string.format('%.0f-0', from) or bound
  return redis.call('XTRIM', stream, 'MINID', '=', first_kept)
end

-- Memory of the acknowledged entries: their share of the stream's.
local function window_bytes(fields)
  local length = redis.call('XLEN', stream)
  if length == 0 then return 0 end
  local acknowledged = length - fields.pending - (fields.lag or 0)
  return redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', 50) * math.max(acknowledged, 0) / length
end

-- Shrinks the window in proportion until it fits: a few steps, since a window is not uniform.
local function shrink(fields, bound)
  local removed, newest = 0, parse(bound)
  for _ = 1, 16 do
    local bytes = window_bytes(fields)
    if bytes <= most_bytes then return removed end
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local span = newest - parse(first[1])
    local kept = math.floor(span * most_bytes / bytes)
    local went = trim_before(kept > 0 and newest - kept or newest, bound)
    if went == 0 and kept == 0 then return removed end
    removed = removed + went
  end
  return removed
end

-- With nothing pending and nothing undelivered the counters must agree. They do not when somebody
-- removed entries by hand, and would say so for ever.
local function settle(fields)
  if fields.pending > 0 then return 0 end
  if #redis.call('XRANGE', stream, '(' .. fields['last-delivered-id'], '+', 'COUNT', 1) > 0 then return 0 end
  local count = redis.call('HMGET', counts, 'appended', 'acknowledged')
  local appended, acknowledged = tonumber(count[1] or nil), tonumber(count[2] or '0')
  if appended == acknowledged or (not appended and redis.call('XLEN', stream) == 0) then return 0 end
  local agreed = math.max(appended or 0, acknowledged, 1)
  redis.call('HSET', counts, 'appended', agreed, 'acknowledged', agreed)
  return 1
end

local fields = our_group()
if not fields then return {0, 0} end
local bound = bound_of(fields)
local settled = settle(fields)
if window == 0 or memory_is_short() then return {redis.call('XTRIM', stream, 'MINID', '=', bound), settled} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local removed = trim_before(now - window, bound)
return {removed + shrink(fields, bound), settled}
