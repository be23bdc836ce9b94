-- A replica is there.
--
-- KEYS  1 replicas hash
-- ARGV  1 replica   2 state   3 threads
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
