-- Counts the events that are not acknowledged, after the counter of appended events was lost. The stream may be long,
-- so a call counts a part of it, and the next call, of any replica, goes on. Until the end the backlog stays unknown.
--
-- The first call adds up what is pending, lets the acknowledgements be counted from 0, and notes the id that was
-- delivered last. All calls add up what is after this id, whether it was delivered and acknowledged in the meantime or
-- not, up to the end of the stream; nothing is trimmed meanwhile (trim.lua).
-- KEYS: stream, counts   ARGV: group, maximum number of entries
-- Returns 1 when the backlog is known, 0 when there is more to count.
local stream, counts, group, most = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])

-- Returns the last delivered id, or nil without a group.
local function last_delivered()
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then return nil end
  for _, flat in ipairs(groups) do
    local fields = pairs_of(flat)
    if fields.name == group then return fields['last-delivered-id'] end
  end
end

-- There are few: what the replicas have read and not stored yet.
local function events_pending()
  local sum, from = 0, '-'
  while true do
    local page = redis.call('XPENDING', stream, group, from, '+', 256)
    if #page == 0 then return sum end
    for _, pending in ipairs(page) do
      local entry = redis.call('XRANGE', stream, pending[1], pending[1])[1]
      if entry then sum = sum + events_of(entry) end
    end
    from = '(' .. page[#page][1]
  end
end

local after, events = unpack(redis.call('HMGET', counts, 'recount_after', 'recount_events'))
if not after then
  if redis.call('HEXISTS', counts, 'appended') == 1 then return 1 end
  after = last_delivered()
  if not after then return 1 end -- the group is created again, which counts too
  events = events_pending()
  redis.call('HSET', counts, 'acknowledged', 0)
end

local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', most)
events = tonumber(events)
for _, entry in ipairs(entries) do events = events + events_of(entry) end
if #entries == most then
  redis.call('HSET', counts, 'recount_after', entries[#entries][1], 'recount_events', events)
  return 0
end
redis.call('HDEL', counts, 'recount_after', 'recount_events')
-- The totals since the beginning stay lost, which an audit has to know.
redis.call('HSET', counts, 'appended', events, 'counted_again', 1)
return 1
