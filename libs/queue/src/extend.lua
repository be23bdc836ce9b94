-- Extends a lease that is still held. Returns 1, or 0 where it is another's or has ended.
--
-- KEYS  1 lease
-- ARGV  1 token   2 ms
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
