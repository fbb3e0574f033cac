#!lua flags=allow-oom
-- A member goes.
--
-- KEYS  members.
-- ARGV  the member.

return redis.call('ZREM', KEYS[1], ARGV[1])
