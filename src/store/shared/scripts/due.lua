#!lua flags=allow-oom
-- The places whose records expired before an instant.
--
-- KEYS  expiries.
-- ARGV  the instant (ms), how many.

if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return {} end
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, tonumber(ARGV[2]))
