#!lua
-- One writer's totals of one user, in any number of periods. A hash holds one period: 'w' the number of its writers, 'w<name>' a
-- writer's position, and each line "sum;count;count;..." by position. A line keeps the greatest number of each writer.
-- Everything is looked at before anything is written.
--
-- KEYS: the hashes. ARGV: the writer; the most writers, lines and bytes of a line; then for each key its expiry (unix seconds, 0:
-- never), how many lines follow, and each line with its count.
-- Answers how many lines stand at the greatest number, and for each line by how much it rose; below zero: by how much the store
-- was ahead of its own writer. A period past its expiry is answered with zeros.
local MOST = 9007199254740991
local writer, writers_max, lines_max, bytes_max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = tonumber(redis.call('TIME')[1])

local function refuse(code, why)
  return redis.error_reply(code .. ' ' .. why)
end

local saturated = 0
local answer = {0}
local plans = {}
local at = 5
for _, key in ipairs(KEYS) do
  local expiry, lines = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  at = at + 2
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= 'hash' then
    return refuse('WRONGTYPE', 'these counts are no hash but a ' .. kind)
  end
  if expiry > 0 and expiry <= now then
    for _ = 1, lines do
      answer[#answer + 1] = 0
    end
    at = at + 2 * lines
  else
    local fields = redis.call('HLEN', key)
    local plan = {key = key, expiry = expiry, writes = {}}
    local position = tonumber(redis.call('HGET', key, 'w' .. writer) or '')
    local writers = 0
    if redis.call('HSTRLEN', key, 'w') > 16 then
      return refuse('CORRUPT', 'the number of writers cannot be read')
    end
    if fields > 0 then
      writers = tonumber(redis.call('HGET', key, 'w') or '')
      if not writers or writers < 0 then
        return refuse('CORRUPT', 'the number of writers cannot be read')
      end
    end
    if not position then
      if writers >= writers_max then
        return refuse('FULL', 'there are too many writers')
      end
      position = writers
      plan.enter = true
      plan.writers = writers + 1
    elseif position < 0 or position >= writers then
      return refuse('CORRUPT', 'a writer has no place')
    end
    for _ = 1, lines do
      local line, count = ARGV[at], tonumber(ARGV[at + 1])
      at = at + 2
      local parts = {}
      local length = redis.call('HSTRLEN', key, line)
      if length > bytes_max then
        return refuse('OVERSIZE', 'a line is too long')
      end
      if length > 0 then
        local first, total, told = true, 0, 0
        for part in string.gmatch(redis.call('HGET', key, line) .. ';', '([^;]*);') do
          if string.len(part) > 16 or not string.match(part, '^%d*$') or (first and part == '') then
            return refuse('CORRUPT', 'a line cannot be read')
          end
          if first then
            first = false
            total = tonumber(part)
          else
            parts[#parts + 1] = part
            told = math.min(MOST, told + (tonumber(part) or 0))
          end
        end
        if total ~= told then
          return refuse('CORRUPT', 'a line is not the sum of its parts')
        end
        if #parts > writers then
          return refuse('CORRUPT', 'a line has more parts than there are writers')
        end
      else
        fields = fields + 1
        if fields > lines_max then
          return refuse('FULL', 'there are too many lines')
        end
      end
      local known = tonumber(parts[position + 1] or '') or 0
      answer[#answer + 1] = count - known
      if count > known then
        for index = #parts + 1, position do
          parts[index] = ''
        end
        parts[position + 1] = string.format('%.0f', count)
        local sum = 0
        for _, part in ipairs(parts) do
          sum = math.min(MOST, sum + (tonumber(part) or 0))
        end
        if sum >= MOST then
          saturated = saturated + 1
        end
        plan.writes[#plan.writes + 1] = {line, string.format('%.0f', sum) .. ';' .. table.concat(parts, ';')}
      end
    end
    if #plan.writes > 0 then
      plan.position = position
      plans[#plans + 1] = plan
    end
  end
end

for _, plan in ipairs(plans) do
  if plan.enter then
    redis.call('HSET', plan.key, 'w', plan.writers, 'w' .. writer, plan.position)
  end
  for _, write in ipairs(plan.writes) do
    redis.call('HSET', plan.key, write[1], write[2])
  end
  if plan.expiry > 0 then
    redis.call('EXPIREAT', plan.key, plan.expiry)
  end
end
answer[1] = saturated
return answer
