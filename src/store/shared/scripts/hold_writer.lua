#!lua
-- Who writes under a name: one process at a time, told apart by random numbers (nonces). Whoever has it renews it; a later run of
-- the same history knows the nonces of the runs before it, and takes over once their time is up.
-- KEYS: the name's place. ARGV: our nonce, how long it holds (ms; 0: it is given back), how long the place is remembered (ms), and
-- the nonces of earlier runs, the newest first.
-- Answers a word, how often the holder has renewed it, and how long it still holds (ms):
--   'new' there was nobody; 'held' it was ours; 'taken' it was the last run's; 'older' it was the one of a run before that;
--   'busy' somebody's time is not up; 'foreign' it is nobody's whom we know.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'hash' then
  return redis.error_reply('WRONGTYPE this writer is a ' .. kind)
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = tonumber(ARGV[2])
local found = redis.call('HMGET', KEYS[1], 'nonce', 'until', 'renewed')
local renewed = tonumber(found[3] or '') or 0
local word = 'new'
if found[1] then
  word = 'foreign'
  if found[1] == ARGV[1] then
    word = 'held'
  else
    for index = 4, #ARGV do
      if found[1] == ARGV[index] then
        word = index == 4 and 'taken' or 'older'
      end
    end
    local left = (tonumber(found[2] or '') or 0) - now
    -- Nobody holds a name for so long: the clock went back, or a server took over whose clock is behind.
    if held > 0 and left > held then left = 0 end
    if word ~= 'foreign' and left > 0 then
      return {'busy', renewed, left}
    end
  end
end
if word == 'foreign' or (held == 0 and word ~= 'held') then
  return {word, renewed, 0}
end
redis.call('HSET', KEYS[1], 'nonce', ARGV[1], 'until', string.format('%.0f', now + held), 'renewed', renewed + 1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {word, renewed + 1, held}
