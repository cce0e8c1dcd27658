#!lua flags=allow-oom
-- Acknowledges entries and counts the events of those that were still pending. In the same step it notes the number of
-- the commit that stored them, so that a store that has lost this commit is noticed (replay.rs).
-- KEYS: stream, counts, marks
-- ARGV: group, worker or '' without a number, number of its commit, (id, number of events)*
-- Returns {the number of entries that were still pending, the number that was noted before}.
--
-- An acknowledgement of a commit that is not newer than the noted one arrives for the second time, or late, from a process
-- that was replaced. It does nothing: an entry that is pending all the same was delivered again, and the store may have
-- lost the commit.
local stream, counts, marks, group, worker, number = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3]
local entries, events, noted = 0, 0, 0
if worker ~= '' then
  noted = tonumber(string.match(redis.call('HGET', marks, worker) or '', '^%d+') or '0')
  if tonumber(number) <= noted then return {0, noted} end
end
for i = 4, #ARGV, 2 do
  if redis.call('XACK', stream, group, ARGV[i]) == 1 then
    entries = entries + 1
    events = events + tonumber(ARGV[i + 1])
  end
end
if events > 0 then redis.call('HINCRBY', counts, 'acknowledged', events) end
if worker ~= '' then redis.call('HSET', marks, worker, number .. ' ' .. redis.call('TIME')[1]) end
return {entries, noted}
