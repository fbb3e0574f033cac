#!lua
-- Enters names into a list that is read in the order of their bytes.
-- KEYS: the list. ARGV: the names.
for _, name in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], 0, name)
end
return #ARGV
