-- Books a chunk that is about to be queued: its rows into the depth. A chunk that is booked already is not booked again.
--
-- KEYS  1 depth hash   2 chunks of the backfill
-- ARGV  1 chunk   2 tenant   3 rows   4 seconds to keep what nobody comes for
-- Returns 1 where it is to be queued, 0 where it has its result.
local open = 'open ' .. ARGV[3]
if redis.call('HSETNX', KEYS[2], ARGV[1], open) == 0 then
  return redis.call('HGET', KEYS[2], ARGV[1]) == open and 1 or 0
end
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('HINCRBY', KEYS[1], 'bulk', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'bulk/' .. ARGV[2], ARGV[3])
return 1
