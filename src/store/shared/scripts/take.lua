#!lua
-- Takes from all of the buckets or from none of them, as `model/quota.rs` does.
--
-- A bucket is the instant at which it is full again, written as "seconds nanoseconds": a double counts exactly to 2^53 only, so
-- whole instants never meet in one number; what is owed (the instant less now) does, since no bucket takes 100 days to fill.
-- Whatever lies further ahead than an empty bucket counts as one and is set right at once, also when nothing is taken: after the
-- clock went back nobody waits longer than a bucket takes to fill.
--
-- ARGV: now in seconds and nanoseconds (empty: the server's clock); requests that wait; how many more to hand out in advance;
-- how many more must be there for that; then for each bucket its window and the price of one request, in nanoseconds.
-- Answer: requests admitted, now in seconds and nanoseconds, nanoseconds until one more would be (-1: never), what each bucket owes.

local SECOND = 1000000000
local FAR = 9000000
local FARTHEST = FAR * SECOND
-- A state is kept this much longer than it matters, in milliseconds, for clocks that step back a little.
local KEPT = 10000

local seconds, nanos = tonumber(ARGV[1]), tonumber(ARGV[2])
if not seconds then
  local time = redis.call('TIME')
  seconds, nanos = tonumber(time[1]), tonumber(time[2]) * 1000
end
local need, stock, reserve = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function broken(index, why)
  return redis.error_reply('BADBUCKET ' .. index .. ' ' .. why)
end

-- How far ahead of now each bucket's instant lies.
local found = {}
for index, key in ipairs(KEYS) do
  if not found[key] then
    local length = redis.pcall('STRLEN', key)
    if type(length) == 'table' then
      return broken(index, 'it is of another type')
    end
    if length > 40 then
      return broken(index, 'it is too long')
    end
    found[key] = 0
    if length > 0 then
      local s, n = string.match(redis.call('GET', key), '^(%d+) (%d+)$')
      if not s then
        return broken(index, 'it is no instant')
      end
      local ahead = tonumber(s) - seconds
      if ahead >= FAR then
        found[key] = FARTHEST
      elseif ahead > -FAR then
        found[key] = math.max(0, ahead * SECOND + tonumber(n) - nanos)
      end
    end
  end
end

-- One request: what each bucket would owe after it (`taken`), and what it owes when nothing is taken (`kept`).
local taken, kept, shown, wait, room = {}, {}, {}, 0, math.huge
local admitted = true
for index, key in ipairs(KEYS) do
  local window, price = tonumber(ARGV[4 + 2 * index]), tonumber(ARGV[5 + 2 * index])
  local owed = math.min(taken[key] or found[key], window)
  kept[key] = math.min(kept[key] or found[key], window)
  taken[key] = owed
  shown[index] = owed
  local free = window - owed
  if price > window then
    admitted, wait = false, -1
  elseif price > free then
    admitted = false
    if wait >= 0 then
      wait = math.max(wait, price - free)
    end
  elseif price > 0 then
    taken[key] = owed + price
    room = math.min(room, math.floor(free / price))
  end
end

local granted = 0
if admitted then
  -- More than one is asked for only where no bucket is named twice.
  granted = math.min(need, room)
  if stock > 0 and room - granted >= reserve then
    granted = granted + stock
  end
  for index, key in ipairs(KEYS) do
    local window, price = tonumber(ARGV[4 + 2 * index]), tonumber(ARGV[5 + 2 * index])
    if price > 0 then
      taken[key] = taken[key] + (granted - 1) * price
      shown[index] = shown[index] + granted * price
      wait = math.max(wait, price - (window - taken[key]))
    end
  end
else
  taken = kept
  for index, key in ipairs(KEYS) do
    -- What would have been admitted, and was not, shows what it still has.
    local window, price = tonumber(ARGV[4 + 2 * index]), tonumber(ARGV[5 + 2 * index])
    if price <= window - shown[index] then
      shown[index] = math.min(kept[key], window)
    end
  end
end

for key, owed in pairs(taken) do
  if owed ~= found[key] then
    local full = nanos + owed
    local state = string.format('%d %d', seconds + math.floor(full / SECOND), full % SECOND)
    redis.call('SET', key, state, 'PX', string.format('%d', math.ceil(owed / 1000000) + KEPT))
  end
end

return { granted, seconds, nanos, wait, unpack(shown) }
