-- Takes on deliveries: each once, however often it is asked for. Those that are wanted at once are claimed with it, unless
-- their host is left alone. Returns the end of the lease, then per delivery that was new: its id, and whether it is claimed ('1' or '').
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 prefix of the keys of deliveries   2 retention (s)   3 the id before which indexes forget   4 lease (ms)
--       then per delivery: id, tenant, host ('' = dead from the start), state, body, whether it is wanted at once ('1' or '')
local prefix, seconds, first, per, now = ARGV[1], ARGV[2], 5, 6, now_ms()
local lease, new, indexes, dues, held = now + ARGV[4], {}, {}, {}, {}

-- What is to be put into sorted sets, so that each is written to once.
local function put(sets, name, score, id)
  local set = sets[name] or {}
  sets[name] = set
  set[#set + 1] = score
  set[#set + 1] = id
end

local function is_held(host)
  if held[host] == nil then held[host] = tonumber(redis.call('HGET', KEYS[2], host) or 0) > now end
  return held[host]
end

for i = first, #ARGV, per do
  local id, tenant, host, wanted = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 5]
  local key = prefix .. ':delivery:' .. id
  if redis.call('HSETNX', key, 'state', ARGV[i + 3]) == 1 then
    redis.call('HSET', key, 'body', ARGV[i + 4])
    put(indexes, 'index:' .. tenant, 0, id)
    if host == '' then
      redis.call('EXPIRE', key, seconds)
      put(indexes, 'dead:' .. tenant, 0, id)
    else
      if is_held(host) then wanted = '' end
      put(dues, host, wanted == '' and now or lease, id)
    end
    new[#new + 1] = id
    new[#new + 1] = wanted
  end
end

for name, places in pairs(indexes) do
  local index = prefix .. ':' .. name
  redis.call('ZADD', index, unpack(places))
  redis.call('ZREMRANGEBYLEX', index, '-', '(' .. ARGV[3])
  redis.call('EXPIRE', index, seconds)
end
for host, places in pairs(dues) do
  local due = prefix .. ':due:' .. host
  redis.call('ZADD', due, unpack(places))
  order_host(host, due)
end
return { tostring(lease), unpack(new) }
