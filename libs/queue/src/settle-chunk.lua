-- Ends a chunk that is open: writes its result, or takes it back where there is none. The first write wins, also against one
-- whose result was taken meanwhile: it is not open any more. Its marks (chunk-marks.ts) go with it.
--
-- KEYS  1 depth hash   2 chunks of the backfill
-- ARGV  1 chunk   2 tenant   3 result ('' = taken back)
-- Returns 1 where it was open.
local rows = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^open (%d+)$')
if not rows then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[2], ARGV[1]) else redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) end
redis.call('HDEL', KEYS[2], ARGV[1] .. ':deaths', ARGV[1] .. ':suspicion', ARGV[1] .. ':running')
for _, field in ipairs({ 'bulk', 'bulk/' .. ARGV[2] }) do
  -- Below 0 the counter was set right in between: then it starts anew.
  if redis.call('HINCRBY', KEYS[1], field, -rows) <= 0 then redis.call('HDEL', KEYS[1], field) end
end
return 1
