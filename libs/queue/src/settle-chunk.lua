-- Ends a chunk that is open: writes its result, or takes it back where there is none. The first write wins, also against one
-- whose result was taken meanwhile: it is not open any more. Its marks (chunk-marks.ts) go with it.
--
-- KEYS  1 depth hash   2 bookings   3 work hash   4 chunks of the backfill
-- ARGV  1 chunk   2 its job's id   3 result ('' = taken back)   4 to 7 what it has cost (work.lua)
-- Returns 1 where it was open.
if redis.call('HGET', KEYS[4], ARGV[1]) ~= 'open' then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[4], ARGV[1]) else redis.call('HSET', KEYS[4], ARGV[1], ARGV[3]) end
redis.call('HDEL', KEYS[4], ARGV[1] .. ':deaths', ARGV[1] .. ':suspicion', ARGV[1] .. ':running')
local rows = booking_of(KEYS[2], ARGV[2])
local path = release(KEYS[1], KEYS[2], ARGV[2])
if ARGV[3] ~= '' then count_work(KEYS[3], path, rows or 0, { unpack(ARGV, 4, 7) }) end
return 1
