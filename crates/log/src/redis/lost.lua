#!lua flags=no-writes,allow-oom
-- Finds out whether an entry was lost that had been confirmed. Entries are trimmed from the oldest on, so one that is
-- missing while an older one is there was lost. When all older ones are gone too, it was trimmed, unless the stream has
-- never got as far as its id.
-- KEYS: stream   ARGV: id of the entry
-- Returns {1 when it was lost, the id of the last entry before it or ''}.
local stream, id = KEYS[1], ARGV[1]

if #redis.call('XRANGE', stream, id, id) > 0 then return {0, ''} end
local before = redis.call('XREVRANGE', stream, '(' .. id, '-', 'COUNT', 1)[1]
if before then return {1, before[1]} end

local function parse(text)
  local millis, sequence = string.match(text, '^(%d+)%-(%d+)$')
  return tonumber(millis), tonumber(sequence)
end

local info = redis.pcall('XINFO', 'STREAM', stream)
if info.err then return {1, ''} end -- there is no stream
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    local millis, sequence = parse(info[i + 1])
    local own_millis, own_sequence = parse(id)
    local is_behind = millis < own_millis or millis == own_millis and sequence < own_sequence
    return {is_behind and 1 or 0, is_behind and info[i + 1] or ''}
  end
end
return {0, ''}
