-- Takes back a bundle that Redis refused.
--
-- KEYS  1 depth hash   2 bookings   3 index of the pool and tenant
-- ARGV  1 bundle id
release(KEYS[1], KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
