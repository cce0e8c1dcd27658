-- Functions of the scripts that count the events of entries; it is put before them.

local function pairs_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- Bounded as in reply.rs: an entry of another program may claim any number.
local MAX_EVENTS = 1000000
local function events_of(entry)
  local n = pairs_of(entry[2]).n
  return math.min(tonumber(string.match(n or '', '^%d+$') or nil) or 0, MAX_EVENTS)
end

