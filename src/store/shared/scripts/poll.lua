#!lua flags=allow-oom
-- One poll of the change log. It writes, so that only a primary that takes writes can renew anybody's lease.
--
-- KEYS  meta, log, members.
-- ARGV  cursor ("" at the first time), most entries, the longest entry, this member, how long a member counts (ms), a birth mark.
-- Gives {head, nonce at the cursor or nil, nonce at the head or nil, birth, beats, replication id, members, entries since the cursor}.

local meta, log, members = KEYS[1], KEYS[2], KEYS[3]
local most, longest = tonumber(ARGV[2]), tonumber(ARGV[3])

local function number(value)
    return string.format('%.0f', value)
end
local function short(key, field)
    if redis.call('HSTRLEN', key, field) > longest then return false end
    return redis.call('HGET', key, field)
end

redis.call('HSETNX', meta, 'birth', ARGV[6])
local beats = redis.call('HINCRBY', meta, 'beats', 1)
local head = tonumber(short(meta, 'head') or '0') or 0

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', members, number(now), ARGV[4])
redis.call('ZREMRANGEBYSCORE', members, '-inf', number(now - tonumber(ARGV[5])))
-- The clock of a former primary may have been ahead: what lies far in the future is nobody's.
redis.call('ZREMRANGEBYSCORE', members, number(now + tonumber(ARGV[5])), '+inf')

local replication = ''
local told = redis.pcall('INFO', 'replication')
if type(told) == 'table' and told.format then told = told.string end
if type(told) == 'string' then replication = string.match(told, 'master_replid:(%x+)') or '' end

local entries, nonce = {}, false
local cursor = tonumber(ARGV[1])
if cursor then
    if cursor > 0 then nonce = string.match(short(log, number(cursor)) or '', '^%S+') or false end
    for sequence = cursor + 1, math.min(head, cursor + most) do
        entries[#entries + 1] = short(log, number(sequence))
    end
end
local birth = short(meta, 'birth')
return {number(head), nonce, short(meta, 'nonce'), birth, number(beats), replication, redis.call('ZCARD', members), entries}
