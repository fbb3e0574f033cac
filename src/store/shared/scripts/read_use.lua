#!lua flags=no-writes
-- KEYS: the place of a key's last use.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then
  return redis.error_reply('WRONGTYPE this last use is a ' .. kind)
end
if redis.call('STRLEN', KEYS[1]) > 65536 then
  return redis.error_reply('OVERSIZE this last use is too long')
end
return redis.call('GET', KEYS[1])
