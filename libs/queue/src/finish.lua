-- Ends attempts. One whose lease has passed to another changes nothing. What has ended expires; what is pending does not.
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 prefix of the keys of deliveries   2 the id before which indexes forget
--       then per delivery: id, tenant, host, lease, state, ms until it may be claimed again ('' = ended, 'dead' = given up),
--       host for which it may be claimed then, retention (s)
local prefix, forget, per, hosts, now = ARGV[1], ARGV[2], 8, {}, now_ms()
for i = 3, #ARGV, per do
  local id, tenant, host, wait, to, seconds = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7]
  local key, due = prefix .. ':delivery:' .. id, prefix .. ':due:' .. host
  if redis.call('ZSCORE', due, id) == ARGV[i + 3] then
    hosts[host] = true
    redis.call('HSET', key, 'state', ARGV[i + 4])
    if wait == '' or wait == 'dead' then
      redis.call('ZREM', due, id)
      redis.call('EXPIRE', key, seconds)
      if wait == 'dead' then
        local dead = prefix .. ':dead:' .. tenant
        redis.call('ZADD', dead, 0, id)
        redis.call('ZREMRANGEBYLEX', dead, '-', '(' .. forget)
        redis.call('EXPIRE', dead, seconds)
      end
    elseif to == host then
      redis.call('ZADD', due, now + wait, id)
    else
      hosts[to] = true
      redis.call('ZREM', due, id)
      redis.call('ZADD', prefix .. ':due:' .. to, now + wait, id)
    end
  end
end
for host in pairs(hosts) do order_host(host, prefix .. ':due:' .. host) end
