-- Puts a field into a hash that has room for one more. Returns 1 where it did.
--
-- KEYS  1 hash
-- ARGV  1 field   2 value   3 how many fields it may have
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
