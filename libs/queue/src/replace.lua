-- Changes a field of a hash that is still as it was read. Returns 1 where it did.
--
-- KEYS  1 hash
-- ARGV  1 field   2 value as read ('' = there was none)   3 new value
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
