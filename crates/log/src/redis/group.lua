-- Creates the consumer group where it is missing, at the beginning of the stream, and the stream too.
-- All entries of the stream will be delivered again, so the counters are set to include them.
-- KEYS: stream, counts   ARGV: group
-- Returns 1 when the group was created, 0 when it existed.
local stream, counts, group = KEYS[1], KEYS[2], ARGV[1]

local created = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
if type(created) == 'table' and created.err then
  if string.find(created.err, 'BUSYGROUP', 1, true) then return 0 end
  return created
end

local function events_in_stream()
  local sum, from = 0, '-'
  while true do
    -- Few at a time, because XRANGE returns the bodies too.
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', 64)
    if #entries == 0 then return sum end
    for _, entry in ipairs(entries) do sum = sum + events_of(entry) end
    from = '(' .. entries[#entries][1]
  end
end

local count = redis.call('HMGET', counts, 'appended', 'acknowledged')
local appended, acknowledged = tonumber(count[1] or nil), tonumber(count[2] or '0')
local length = redis.call('XLEN', stream)
local ever = pairs_of(redis.call('XINFO', 'STREAM', stream))['entries-added']
if appended and acknowledged == 0 and length == ever then return 1 end -- a publisher created the stream

local events = length == 0 and 0 or events_in_stream()
appended = math.max(appended or 0, events)
redis.call('HSET', counts, 'appended', appended, 'acknowledged', appended - events)
redis.call('HDEL', counts, 'recount_after', 'recount_events')
return 1
