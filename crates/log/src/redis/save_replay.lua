#!lua flags=allow-oom
-- Saves how far the replay of a stream is stored, if it is still this replay.
-- KEYS: replay   ARGV: id, position reached, number of the commit that stored it
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'reached', ARGV[2], 'number', ARGV[3])
return 1
