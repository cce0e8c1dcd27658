#!lua flags=allow-oom
-- Resets the idle time of entries that are still pending for this consumer. An entry that another
-- consumer has claimed in the meantime stays with that consumer.
-- KEYS: stream   ARGV: group, consumer, id*
-- Returns the ids that were pending for this consumer and are no longer in the stream.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local lost = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if #redis.call('XPENDING', stream, group, id, id, 1, consumer) > 0 then
    if #redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID') == 0 then lost[#lost + 1] = id end
  end
end
return lost
