#!lua
-- One commit: judges every precondition first, then writes everything, and notes each write in the change log.
--
-- KEYS  meta, log, expiries, the index of each family, then the records.
-- ARGV  nonce, now, "first" or "again", channel, longest log, number of families, of preconditions, of writes;
--       3 a precondition: "absent" / "present" / "at", record, version;
--       11 a write: "put" / "remove", record, index, place, id, version, bytes, expires (or ""), expires in ms, lives for ms, mark.
-- Gives {"refused", position} or {"done", head, the version that each write replaced ("-": nothing was there)}.

local nonce, now, try, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local longest, families = tonumber(ARGV[5]), tonumber(ARGV[6])
local preconditions, writes = tonumber(ARGV[7]), tonumber(ARGV[8])
local meta, log, expiries = KEYS[1], KEYS[2], KEYS[3]
local WRITE = 11

local function record(position)
    return KEYS[3 + families + tonumber(position)]
end

-- Whatever else would fail half-way is looked at before the first write.
local function expect(key, kind)
    local found = redis.call('TYPE', key).ok
    return found == 'none' or found == kind
end
if not expect(meta, 'hash') then return redis.error_reply('DAMAGED meta is of a wrong type') end
if not expect(log, 'hash') then return redis.error_reply('DAMAGED log is of a wrong type') end
if not expect(expiries, 'zset') then return redis.error_reply('DAMAGED exp is of a wrong type') end
for family = 1, families do
    if not expect(KEYS[3 + family], 'zset') then return redis.error_reply('DAMAGED an index is of a wrong type') end
end
local head = 0
if redis.call('HSTRLEN', meta, 'head') > 0 then
    head = tonumber(redis.call('HGET', meta, 'head'))
    if not head or head < 0 or head > 9007199254740000 then return redis.error_reply('DAMAGED the head of the log is no number') end
end
local function number(value)
    return string.format('%.0f', value)
end

-- A try whose answer was lost may have run: then its entries stand in the log.
if try == 'again' and writes > 0 then
    for sequence = head, math.max(1, head - writes - 1000), -1 do
        local entry = redis.call('HGET', log, number(sequence))
        if entry and string.sub(entry, 1, #nonce + 1) == nonce .. ' ' then
            local answer = {'done', number(sequence)}
            for position = sequence - writes + 1, sequence do
                local noted = redis.call('HGET', log, number(position)) or ''
                answer[#answer + 1] = string.match(noted, '^%S+ (%S+)') or '0'
            end
            return answer
        end
    end
end

-- The version of what lies there and lives; "-" for nothing, "0" for what cannot be read.
local function version_of(key)
    local kind = redis.call('TYPE', key).ok
    if kind == 'none' then return '-' end
    if kind ~= 'hash' or redis.call('HSTRLEN', key, 'v') > 20 or redis.call('HSTRLEN', key, 'e') > 20 then return '0' end
    local fields = redis.call('HMGET', key, 'v', 'e')
    if not fields[1] then return '0' end
    if fields[2] and fields[2] <= now then return '-' end
    return fields[1]
end

local at = 9
for position = 1, preconditions do
    local kind, version = ARGV[at], version_of(record(ARGV[at + 1]))
    local holds
    if kind == 'absent' then
        holds = version == '-'
    elseif kind == 'present' then
        holds = version ~= '-'
    else
        holds = version == ARGV[at + 2]
    end
    if not holds then return {'refused', number(position - 1)} end
    at = at + 3
end

local answer = {'done', ''}
for _ = 1, writes do
    local kind, key, index, place, id = ARGV[at], record(ARGV[at + 1]), KEYS[3 + tonumber(ARGV[at + 2])], ARGV[at + 3], ARGV[at + 4]
    local old, new = version_of(key), '-'
    redis.call('UNLINK', key)
    if kind == 'put' then
        new = ARGV[at + 5]
        if ARGV[at + 7] == '' then
            redis.call('HSET', key, 'v', new, 'b', ARGV[at + 6])
            redis.call('ZREM', expiries, place)
        else
            redis.call('HSET', key, 'v', new, 'b', ARGV[at + 6], 'e', ARGV[at + 7])
            redis.call('ZADD', expiries, ARGV[at + 8], place)
            redis.call('PEXPIRE', key, ARGV[at + 9])
        end
        redis.call('ZADD', index, 0, id)
    else
        redis.call('ZREM', expiries, place)
        redis.call('ZREM', index, id)
    end
    head = head + 1
    redis.call('HSET', log, number(head), nonce .. ' ' .. old .. ' ' .. new .. ' ' .. ARGV[at + 10] .. ' ' .. place)
    redis.call('HDEL', log, number(head - longest))
    answer[#answer + 1] = old
    at = at + WRITE
end
if writes > 0 then
    redis.call('HSET', meta, 'head', number(head), 'nonce', nonce, 'format', '1')
    -- A hint only, and the last step: whoever may not publish has committed all the same.
    redis.pcall('PUBLISH', channel, number(head))
end
answer[2] = number(head)
return answer
