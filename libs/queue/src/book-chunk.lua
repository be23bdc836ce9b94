-- Books a chunk that is about to be queued: its rows into the depth and the arrivals. One that is booked already is not booked again.
--
-- KEYS  1 depth hash   2 bookings   3 work hash   4 chunks of the backfill
-- ARGV  1 chunk   2 its job's id   3 model version   4 tenant   5 rows   6 seconds to keep what nobody comes for
-- Returns 1 where it is to be queued, 0 where it has its result.
if redis.call('HSETNX', KEYS[4], ARGV[1], 'open') == 1 then
  redis.call('EXPIRE', KEYS[4], ARGV[6])
elseif redis.call('HGET', KEYS[4], ARGV[1]) ~= 'open' then
  return 0
end
if book(KEYS[1], KEYS[2], ARGV[2], ARGV[5], 'bulk/' .. ARGV[3] .. '/' .. ARGV[4]) then
  redis.call('HINCRBY', KEYS[3], 'arrived/bulk/' .. ARGV[3], ARGV[5])
end
return 1
