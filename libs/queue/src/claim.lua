-- Claims what is due for one host: nobody else is given it before the lease is over. Returns the end of the lease, then per
-- delivery: id, state, body.
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 prefix of the keys of deliveries   2 host   3 lease (ms)   4 how many at most
local prefix, host, now = ARGV[1], ARGV[2], now_ms()
local due = prefix .. ':due:' .. host
if tonumber(redis.call('HGET', KEYS[2], host) or 0) > now then return {} end
redis.call('HDEL', KEYS[2], host)
local lease = now + ARGV[3]
local claimed, leases, forgotten = { tostring(lease) }, {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[4])) do
  local delivery = redis.call('HMGET', prefix .. ':delivery:' .. id, 'state', 'body')
  if delivery[1] then
    leases[#leases + 1] = lease
    leases[#leases + 1] = id
    claimed[#claimed + 1] = id
    claimed[#claimed + 1] = delivery[1]
    claimed[#claimed + 1] = delivery[2]
  else
    forgotten[#forgotten + 1] = id
  end
end
if #leases > 0 then redis.call('ZADD', due, unpack(leases)) end
if #forgotten > 0 then redis.call('ZREM', due, unpack(forgotten)) end
order_host(host, due)
return claimed
