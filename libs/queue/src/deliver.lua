-- Takes on deliveries: each once, however often it is asked for. Returns the ids that were new.
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 prefix of the keys of deliveries   then per delivery: id, tenant, host ('' = dead from the start), state, body,
--       retention (s), the id before which indexes forget
local prefix, per, new, hosts, now = ARGV[1], 7, {}, {}, now_ms()
for i = 2, #ARGV, per do
  local id, tenant, host, seconds, forget = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 5], ARGV[i + 6]
  local key = prefix .. ':delivery:' .. id
  if redis.call('EXISTS', key) == 0 then
    new[#new + 1] = id
    redis.call('HSET', key, 'state', ARGV[i + 3], 'body', ARGV[i + 4])
    redis.call('EXPIRE', key, seconds)
    for _, index in ipairs(host == '' and { 'index', 'dead' } or { 'index' }) do
      local place = prefix .. ':' .. index .. ':' .. tenant
      redis.call('ZADD', place, 0, id)
      redis.call('ZREMRANGEBYLEX', place, '-', '(' .. forget)
      redis.call('EXPIRE', place, seconds)
    end
    if host ~= '' then
      redis.call('ZADD', prefix .. ':due:' .. host, now, id)
      hosts[host] = true
    end
  end
end
for host in pairs(hosts) do order_host(host, prefix .. ':due:' .. host) end
return new
