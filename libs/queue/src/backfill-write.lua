-- Writes how far a backfill is, for the coordinator that has its lease; and what there is to tell of it, each event once.
--
-- KEYS  1 the backfill   2 set of the open ones   3 its lease   4 results queue of backfills   5 feed of the tenant
-- ARGV  1 id   2 token of the lease   3 state   4 progress   5 the wish that this grants ('' = none)
--       6 1 where nobody has to see to it any more   7 seconds to keep it from now (0 = for good)
--       8 tenant   9 id of the event ('' = there is nothing to tell)   10 its head   11 feed length (0 = the feed does not tell it)
-- Returns 1, 0 where the lease is another's, or 2 where that is not wished any more: nothing is written then.
if redis.call('GET', KEYS[3]) ~= ARGV[2] then return 0 end
local wish = redis.call('HGET', KEYS[1], 'wish')
if ARGV[5] ~= '' then
  -- Sent once more by the client, it is written already.
  if wish ~= ARGV[5] then return redis.call('HGET', KEYS[1], 'progress') == ARGV[4] and 1 or 2 end
  redis.call('HDEL', KEYS[1], 'wish')
  wish = false
end
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'progress', ARGV[4])
if ARGV[9] ~= '' and redis.call('HSETNX', KEYS[1], 'told:' .. ARGV[9], '') == 1 then
  redis.call('XADD', KEYS[4], '*', 'tenant', ARGV[8], 'backfill', ARGV[1], 'head', ARGV[10])
  if ARGV[11] ~= '0' and redis.call('EXISTS', KEYS[5]) == 1 then redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[11], '*', 'backfill', ARGV[10]) end
end
-- What is asked meanwhile is still seen to.
if ARGV[6] == '1' and not wish then redis.call('SREM', KEYS[2], ARGV[1]) else redis.call('SADD', KEYS[2], ARGV[1]) end
if ARGV[7] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[7]) else redis.call('PERSIST', KEYS[1]) end
return 1
