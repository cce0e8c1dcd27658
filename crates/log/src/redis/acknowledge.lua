#!lua flags=allow-oom
-- Acknowledges entries and counts the events of those that were still pending.
-- KEYS: stream, counts   ARGV: group, (id, number of events)*
-- Returns the number of entries that were still pending.
local stream, counts, group = KEYS[1], KEYS[2], ARGV[1]
local entries, events = 0, 0
for i = 2, #ARGV, 2 do
  if redis.call('XACK', stream, group, ARGV[i]) == 1 then
    entries = entries + 1
    events = events + tonumber(ARGV[i + 1])
  end
end
if events > 0 then redis.call('HINCRBY', counts, 'acknowledged', events) end
return entries
