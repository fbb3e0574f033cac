#!lua flags=allow-oom
-- The ids of a family that follow one, in their order.
--
-- KEYS  the family's index.
-- ARGV  where to begin, as ZRANGEBYLEX takes it; how many; the longest id.

local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return {} end
if kind ~= 'zset' then return redis.error_reply('DAMAGED an index is of a wrong type') end
local ids = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, tonumber(ARGV[2]))
local longest = tonumber(ARGV[3])
for position, id in ipairs(ids) do
    -- No record of ours has such an id; its beginning keeps the place in the order.
    if #id > longest then ids[position] = string.sub(id, 1, longest + 1) end
end
return ids
