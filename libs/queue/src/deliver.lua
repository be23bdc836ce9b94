-- Takes on deliveries: each once, however often it is asked for. Those that are wanted at once are claimed with it, unless
-- their host is left alone. Returns the end of the lease, then per delivery that was new: its id, and whether it is claimed ('1' or '').
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 prefix of the keys of deliveries   2 retention (s)   3 the id before which indexes forget   4 lease (ms)
--       then per delivery: id, tenant, host ('' = dead from the start), state, body, whether it is wanted at once ('1' or '')
local prefix, seconds, first, per, now = ARGV[1], ARGV[2], 5, 6, now_ms()
local lease, new, places, hosts = now + ARGV[4], {}, {}, {}

local function enter(index, tenant, id)
  local place = prefix .. ':' .. index .. ':' .. tenant
  places[place] = true
  return redis.call('ZADD', place, 0, id) == 1
end

local function host_of(name)
  if not hosts[name] then
    local held = tonumber(redis.call('HGET', KEYS[2], name) or 0) > now
    hosts[name] = { held = held, due = {} }
  end
  return hosts[name]
end

for i = first, #ARGV, per do
  local id, tenant, name, wanted = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 5]
  -- What the index has was taken on before.
  if enter('index', tenant, id) then
    local key = prefix .. ':delivery:' .. id
    redis.call('HSET', key, 'state', ARGV[i + 3], 'body', ARGV[i + 4])
    redis.call('EXPIRE', key, seconds)
    if name == '' then
      enter('dead', tenant, id)
    else
      local host = host_of(name)
      if host.held then wanted = '' end
      host.due[#host.due + 1] = wanted == '' and now or lease
      host.due[#host.due + 1] = id
    end
    new[#new + 1] = id
    new[#new + 1] = wanted
  end
end

for place in pairs(places) do
  redis.call('ZREMRANGEBYLEX', place, '-', '(' .. ARGV[3])
  redis.call('EXPIRE', place, seconds)
end
for name, host in pairs(hosts) do
  local due = prefix .. ':due:' .. name
  redis.call('ZADD', due, unpack(host.due))
  order_host(name, due)
end
return { tostring(lease), unpack(new) }
