-- Notes how many rows of a backfill are still to be queued, behind its chunks that are; 0 takes the note back.
--
-- KEYS  1 to come
-- ARGV  1 backfill   2 model version   3 rows
if ARGV[3] == '0' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local since = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^%d+') or now
return redis.call('HSET', KEYS[1], ARGV[1], since .. ' ' .. now .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
