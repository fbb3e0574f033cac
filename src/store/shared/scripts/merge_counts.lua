#!lua
-- One writer's totals of one user, in any number of periods. A hash holds one period: 'w' the number of its writers, 'w<name>' a
-- writer's position, and each line "sum;count;count;..." by position: eight of them there, the next eight in '1<line>' as
-- "count;count;...", and so on, since short values are kept small. A line keeps the greatest number of each writer.
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
    -- The first piece has the sum, and this one our share: no line takes longer because it has many writers.
    local mine = math.floor(position / 8)
    for _ = 1, lines do
      local line, count = ARGV[at], tonumber(ARGV[at + 1])
      at = at + 2
      local parts = {}
      local total, told = nil, 0
      local pieces = {0}
      if mine > 0 then
        pieces[2] = mine
      end
      for _, piece in ipairs(pieces) do
        local field = piece > 0 and piece .. line or line
        local length = redis.call('HSTRLEN', key, field)
        if length > bytes_max then
          return refuse('OVERSIZE', 'a line is too long')
        end
        if length > 0 then
          local index = 8 * piece
          for part in string.gmatch(redis.call('HGET', key, field) .. ';', '([^;]*);') do
            if string.len(part) > 16 or not string.match(part, '^%d*$') then
              return refuse('CORRUPT', 'a line cannot be read')
            end
            if piece == 0 and not total then
              total = tonumber(part)
              if not total then
                return refuse('CORRUPT', 'a line cannot be read')
              end
            else
              index = index + 1
              parts[index] = tonumber(part) or 0
              told = math.min(MOST, told + parts[index])
            end
          end
          if index > math.min(writers, 8 * piece + 8) then
            return refuse('CORRUPT', 'a line has more parts than there are writers')
          end
        end
      end
      -- With nine writers and more only some of the parts are looked at; whoever reads a line adds up all of them.
      if (total or 0) < told or (writers <= 8 and (total or 0) ~= told) then
        return refuse('CORRUPT', 'a line is not the sum of its parts')
      end
      if not total then
        fields = fields + 1
        if fields > lines_max then
          return refuse('FULL', 'there are too many lines')
        end
      end
      local known = parts[position + 1] or 0
      answer[#answer + 1] = count - known
      if count > known then
        parts[position + 1] = count
        local sum = math.min(MOST, (total or 0) + count - known)
        if sum >= MOST then
          saturated = saturated + 1
        end
        for _, piece in ipairs(pieces) do
          local words = {}
          for index = 8 * piece + 1, 8 * piece + 8 do
            local part = parts[index] or 0
            words[#words + 1] = part > 0 and string.format('%.0f', part) or ''
          end
          local value = string.gsub(table.concat(words, ';'), ';+$', '')
          if piece == 0 then
            plan.writes[#plan.writes + 1] = {line, string.format('%.0f', sum) .. ';' .. value}
          else
            plan.writes[#plan.writes + 1] = {piece .. line, value}
          end
        end
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
