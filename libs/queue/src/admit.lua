-- Books a bundle that is about to be added: its rows into the depth and the arrivals, its id into the tenant's index.
--
-- KEYS  1 depth hash   2 bookings   3 work hash   4 index of the pool and tenant
-- ARGV  1 bundle id   2 lane   3 model version   4 tenant   5 rows   6 the id before which the index forgets   7 retention (s)
local queue = ARGV[2] .. '/' .. ARGV[3]
book(KEYS[1], KEYS[2], ARGV[1], ARGV[5], queue .. '/' .. ARGV[4])
redis.call('HINCRBY', KEYS[3], 'arrived/' .. queue, ARGV[5])
redis.call('ZADD', KEYS[4], 0, ARGV[1])
redis.call('ZREMRANGEBYLEX', KEYS[4], '-', '(' .. ARGV[6])
redis.call('EXPIRE', KEYS[4], ARGV[7])
