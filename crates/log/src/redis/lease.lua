#!lua flags=allow-oom
-- Takes the right to replay, or extends it.
-- KEYS: lease   ARGV: owner, time to live (ms); 0 gives it back
-- Returns 1 when the owner has it.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
