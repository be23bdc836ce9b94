-- Asks something of a backfill, where its state allows it. A wish to cancel stands; any other gives way to the next, and one
-- that is the opposite of it is only taken back.
--
-- KEYS  1 the backfill   2 set of the open ones
-- ARGV  1 id   2 wish   then the states in which it can be granted
-- Returns 'granted', 'unknown', or the state that does not allow it.
local state, before = unpack(redis.call('HMGET', KEYS[1], 'state', 'wish'))
if not state then return 'unknown' end
local function grant(wish)
  if wish then redis.call('HSET', KEYS[1], 'wish', wish) else redis.call('HDEL', KEYS[1], 'wish') end
  redis.call('SADD', KEYS[2], ARGV[1])
  return 'granted'
end

if before == ARGV[2] then return 'granted' end
if before == 'cancel' then return 'canceled' end
for i = 3, #ARGV do
  if ARGV[i] == state then return grant(ARGV[2]) end
end
local opposite = { pause = 'resume', resume = 'pause' }
if before and before == opposite[ARGV[2]] then return grant(nil) end
return state
