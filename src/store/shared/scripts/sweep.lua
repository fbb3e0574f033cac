#!lua
-- Clears away what expired: the record, where the server has not dropped it already, and its places in the indexes.
--
-- KEYS  expiries, the index of each family, then the records.
-- ARGV  the instant that must have passed, number of families; 3 a record: index, place, id.

local families = tonumber(ARGV[2])
local cleared = 0
for position = 1, #KEYS - 1 - families do
    local at = 3 + (position - 1) * 3
    local key, index, place, id = KEYS[1 + families + position], KEYS[1 + tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
    local kind = redis.call('TYPE', key).ok
    local expires = kind == 'hash' and redis.call('HSTRLEN', key, 'e') <= 20 and redis.call('HGET', key, 'e')
    if kind == 'none' or (expires and expires <= ARGV[1]) then
        redis.call('UNLINK', key)
        redis.call('ZREM', index, id)
        redis.call('ZREM', KEYS[1], place)
        cleared = cleared + 1
    elseif not expires then
        redis.call('ZREM', KEYS[1], place)
    end
end
return cleared
