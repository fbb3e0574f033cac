#!lua
-- Removes places, whatever lies there.
-- KEYS: the places.
for _, key in ipairs(KEYS) do
  redis.call('UNLINK', key)
end
return #KEYS
