#!lua flags=no-writes
-- KEYS: a list of names. ARGV: the most names; then, if there is one, the name to go on after.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  return {}
end
if kind ~= 'zset' then
  return redis.error_reply('WRONGTYPE this list is a ' .. kind)
end
local from = '-'
if ARGV[2] then
  from = '(' .. ARGV[2]
end
return redis.call('ZRANGE', KEYS[1], from, '+', 'BYLEX', 'LIMIT', 0, ARGV[1])
