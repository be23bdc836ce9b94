-- Leaves a host alone for a while: nothing for it is claimed. Deliveries keep their order.
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 host   2 ms
local till = now_ms() + ARGV[2]
redis.call('HSET', KEYS[2], ARGV[1], till)
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then redis.call('ZADD', KEYS[1], 'GT', till, ARGV[1]) end
