#!lua flags=allow-oom
-- Begins the replay of a stream, unless one is pending: notes up to which entry, and the marks that the store has
-- reached again when it is stored. While it is pending, nothing is trimmed (trim.lua).
-- KEYS: stream, replay, window   ARGV: group, the store's last commit (ms) or '', (worker, number)*
-- Returns 1 when it was begun, 0 when one was pending.
local stream, replay, window, group, survived = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
if redis.call('EXISTS', replay) == 1 then return 0 end

-- What was not delivered to anybody cannot have been stored. Without a group everything will be delivered again.
local function last_delivered()
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then return '0-0' end
  for _, flat in ipairs(groups) do
    local fields = {}
    for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
    if fields.name == group then return fields['last-delivered-id'] end
  end
  return '0-0'
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local covered = string.match(redis.call('LINDEX', window, 0) or '', '^%d+') or ''
redis.call('HSET', replay, 'id', now, 'until', last_delivered(), 'reached', '0-0', 'number', 0,
  'survived', survived, 'covered', covered)
for i = 3, #ARGV, 2 do redis.call('HSET', replay, 'mark:' .. ARGV[i], ARGV[i + 1]) end
return 1
