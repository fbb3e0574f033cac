#!lua flags=allow-oom
-- A piece of the change log, oldest first.
--
-- KEYS  meta, log.
-- ARGV  behind which sequence, how many, the longest entry.
-- Gives {head, the first sequence that was looked at, entries (nil where one is gone)}.

local meta, log = KEYS[1], KEYS[2]
local longest = tonumber(ARGV[3])
local head = 0
if redis.call('HSTRLEN', meta, 'head') <= 20 then head = tonumber(redis.call('HGET', meta, 'head') or '0') or 0 end
local first = tonumber(ARGV[1]) + 1
local entries = {}
for sequence = first, math.min(head, first + tonumber(ARGV[2]) - 1) do
    local field = string.format('%.0f', sequence)
    entries[#entries + 1] = redis.call('HSTRLEN', log, field) <= longest and redis.call('HGET', log, field)
end
return {string.format('%.0f', head), string.format('%.0f', first), entries}
