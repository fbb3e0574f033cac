#!lua
-- A key's last use, "second route": the latest stays, and of two in one second the greater.
-- KEYS: its place. ARGV: the second, the route, the time to live in seconds after it.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then
  return redis.error_reply('WRONGTYPE this last use is a ' .. kind)
end
if redis.call('STRLEN', KEYS[1]) > 65536 then
  return redis.error_reply('OVERSIZE this last use is too long')
end
local known = redis.call('GET', KEYS[1])
local second = tonumber(ARGV[1])
if known then
  local at, route = string.match(known, '^(%d+) (.*)$')
  at = tonumber(at or '')
  if not at then
    return redis.error_reply('CORRUPT this last use cannot be read')
  end
  if at > second or (at == second and route >= ARGV[2]) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'EXAT', second + tonumber(ARGV[3]))
return 1
