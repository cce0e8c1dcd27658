#!lua flags=allow-oom
-- Replaces the notice if it is the one that the caller knows.
-- KEYS: notice   ARGV: tag of the known one or '' without one, tag, document
-- Returns 1 if it was replaced, else 0.
local notice, known, tag, document = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if (redis.call('HGET', notice, 'tag') or '') ~= known then return 0 end
redis.call('HSET', notice, 'tag', tag, 'document', document)
return 1
