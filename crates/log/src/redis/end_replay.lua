#!lua flags=allow-oom
-- Ends the replay of a stream, if it is still this one. What was stored again is retained for a whole window from now
-- on, because the store may lose it once more: so the samples by which entries are trimmed are replaced by one that
-- says since when nothing was trimmed, and by which nothing is.
-- KEYS: replay, window   ARGV: id
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
local since = string.match(redis.call('LINDEX', KEYS[2], 0) or '', '^%d+')
redis.call('DEL', KEYS[2])
if since then redis.call('RPUSH', KEYS[2], since .. ' 0-0') end
return 1
