#!lua flags=allow-oom
-- Reads records, without ever loading one that is larger than a record can be. It writes nothing, and does not say so to the
-- server: a primary that must not take writes (cut off, demoted) must not answer a check either.
--
-- KEYS  meta, then the records.
-- ARGV  "whole" or "version", the most bytes of a record.
-- Gives {head, an answer a record}: nil where nothing is, {version, expires or "", bytes}, or a text that says what is wrong.

local answer = {'0'}
if redis.call('HSTRLEN', KEYS[1], 'head') <= 20 then answer[1] = redis.call('HGET', KEYS[1], 'head') or '0' end
local whole, most = ARGV[1] == 'whole', tonumber(ARGV[2])
for position = 2, #KEYS do
    local key = KEYS[position]
    local kind = redis.call('TYPE', key).ok
    if kind == 'none' then
        answer[position] = false
    elseif kind ~= 'hash' then
        answer[position] = 'it is of a wrong type: ' .. kind
    elseif redis.call('HSTRLEN', key, 'v') > 20 or redis.call('HSTRLEN', key, 'e') > 20 or redis.call('HSTRLEN', key, 'b') > most then
        answer[position] = 'it is larger than a record can be'
    else
        local fields = redis.call('HMGET', key, 'v', 'e', whole and 'b' or 'v')
        if fields[1] and fields[3] then
            answer[position] = {fields[1], fields[2] or '', whole and fields[3] or ''}
        else
            answer[position] = 'a part of it is missing'
        end
    end
end
return answer
