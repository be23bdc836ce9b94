-- Ends attempts. One whose lease has passed to another changes nothing.
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 prefix of the keys of deliveries   then per delivery: id, tenant, host, lease, state, ms until it may be claimed
--       again ('' = ended, 'dead' = given up), retention (s)
local prefix, per, hosts, now = ARGV[1], 7, {}, now_ms()
for i = 2, #ARGV, per do
  local id, tenant, host, wait = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 5]
  local key, due = prefix .. ':delivery:' .. id, prefix .. ':due:' .. host
  if redis.call('ZSCORE', due, id) == ARGV[i + 3] then
    hosts[host] = true
    redis.call('HSET', key, 'state', ARGV[i + 4])
    redis.call('EXPIRE', key, ARGV[i + 6])
    if wait == '' or wait == 'dead' then
      redis.call('ZREM', due, id)
      if wait == 'dead' then
        redis.call('ZADD', prefix .. ':dead:' .. tenant, 0, id)
        redis.call('EXPIRE', prefix .. ':dead:' .. tenant, ARGV[i + 6])
      end
    else
      redis.call('ZADD', due, now + wait, id)
    end
  end
end
for host in pairs(hosts) do order_host(host, prefix .. ':due:' .. host) end
