-- Books a bundle that is about to be added: its rows into the depth, its id into the tenant's index.
--
-- KEYS  1 depth hash   2 index of the pool and tenant
-- ARGV  1 bundle id   2 lane   3 tenant   4 rows   5 the id before which the index forgets   6 retention (s)
redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[4])
redis.call('HINCRBY', KEYS[1], ARGV[2] .. '/' .. ARGV[3], ARGV[4])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZREMRANGEBYLEX', KEYS[2], '-', '(' .. ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[6])
