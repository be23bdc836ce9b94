-- Sends deliveries again that have ended: where their state is still the one that was read. Returns the ids that were changed.
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 prefix of the keys of deliveries   then per delivery: id, tenant, host, state as read, new state
local prefix, per, taken, hosts, now = ARGV[1], 5, {}, {}, now_ms()
for i = 2, #ARGV, per do
  local id, host = ARGV[i], ARGV[i + 2]
  local key = prefix .. ':delivery:' .. id
  if redis.call('HGET', key, 'state') == ARGV[i + 3] then
    taken[#taken + 1] = id
    hosts[host] = true
    redis.call('HSET', key, 'state', ARGV[i + 4])
    redis.call('PERSIST', key)
    redis.call('ZREM', prefix .. ':dead:' .. ARGV[i + 1], id)
    redis.call('ZADD', prefix .. ':due:' .. host, now, id)
  end
end
for host in pairs(hosts) do order_host(host, prefix .. ':due:' .. host) end
return taken
