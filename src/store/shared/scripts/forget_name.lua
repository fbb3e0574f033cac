#!lua
-- Removes names from a list.
-- KEYS: the list. ARGV: the names.
for _, name in ipairs(ARGV) do
  redis.call('ZREM', KEYS[1], name)
end
return #ARGV
