-- Asks for a wake-up: returns 1 where the prediction is settled, else adds the node to the bundle's waiters.
--
-- KEYS  1 results hash
-- ARGV  1 index   2 node   3 retention (s)
local known = redis.call('HMGET', KEYS[1], ARGV[1], 'waiters')
if known[1] then return 1 end
local waiters = known[2] or ''
if not string.find(' ' .. waiters .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
  redis.call('HSET', KEYS[1], 'waiters', waiters .. ' ' .. ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 0
