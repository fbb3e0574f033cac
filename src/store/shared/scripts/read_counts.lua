#!lua flags=no-writes
-- The lines of one period of one user, in pieces; sizes are looked at before anything is taken up.
-- KEYS: the hash. ARGV: where to go on ('0': from the beginning), the most lines, the most bytes.
-- Answers where to go on ('0': that was all), and names and values in turn.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  return {'0', {}}
end
if kind ~= 'hash' then
  return redis.error_reply('WRONGTYPE these counts are no hash but a ' .. kind)
end
local fields = redis.call('HLEN', KEYS[1])
if fields > tonumber(ARGV[2]) then
  return redis.error_reply('OVERSIZE there are too many lines')
end
local samples = 256
if fields <= 4096 then
  samples = 0
end
if redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', samples) > tonumber(ARGV[3]) then
  return redis.error_reply('OVERSIZE there are too many bytes')
end
if fields <= 512 and ARGV[1] == '0' then
  return {'0', redis.call('HGETALL', KEYS[1])}
end
return redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 512)
