#!lua flags=allow-oom
-- Removes consumers that have nothing pending and have been idle for long enough. DELCONSUMER
-- also deletes the pending entries of a consumer from the group, so the check and the removal are one script.
-- KEYS: stream   ARGV: group, idle (ms), name*
-- Returns the names of the removed consumers.
local stream, group, idle = KEYS[1], ARGV[1], tonumber(ARGV[2])
local named, removed = {}, {}
for i = 3, #ARGV do named[ARGV[i]] = true end
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  if named[fields.name] and fields.pending == 0 and fields.idle >= idle then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, fields.name)
    removed[#removed + 1] = fields.name
  end
end
return removed
