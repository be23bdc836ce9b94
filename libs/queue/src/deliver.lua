-- Writes down deliveries that are new: each once, however often it is asked for. Returns the end of the lease, then the id of
-- each that was new.
--
-- KEYS  1 hosts   2 holds
-- ARGV  1 prefix of the keys of deliveries   2 retention (s)   3 retention of what has arrived (s)   4 the id before which indexes forget
--       5 lease (ms)
--       then per delivery: id, tenant, host, state, body, and how it stands: 'due', 'leased' (it is being tried), 'delivered', 'dead',
--       or the ms until it may be claimed (it was tried, and will be again)
local prefix, seconds, first, per, now = ARGV[1], ARGV[2], 6, 6, now_ms()
local lease, new, indexes, dues = now + ARGV[5], {}, {}, {}

-- What is to be put into sorted sets, so that each is written to once.
local function put(sets, name, score, id)
  local set = sets[name] or {}
  sets[name] = set
  set[#set + 1] = score
  set[#set + 1] = id
end

for i = first, #ARGV, per do
  local id, tenant, host, stands = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 5]
  local key = prefix .. ':delivery:' .. id
  if redis.call('HSETNX', key, 'state', ARGV[i + 3]) == 1 then
    redis.call('HSET', key, 'body', ARGV[i + 4])
    put(indexes, 'index:' .. tenant, 0, id)
    if stands == 'delivered' then
      redis.call('EXPIRE', key, ARGV[3])
    elseif stands == 'dead' then
      redis.call('EXPIRE', key, seconds)
      put(indexes, 'dead:' .. tenant, 0, id)
    else
      put(dues, host, stands == 'leased' and lease or now + (tonumber(stands) or 0), id)
    end
    new[#new + 1] = id
  end
end

for name, places in pairs(indexes) do
  local index = prefix .. ':' .. name
  redis.call('ZADD', index, unpack(places))
  redis.call('ZREMRANGEBYLEX', index, '-', '(' .. ARGV[4])
  redis.call('EXPIRE', index, seconds)
end
for host, places in pairs(dues) do
  local due = prefix .. ':due:' .. host
  redis.call('ZADD', due, unpack(places))
  order_host(host, due)
end
return { tostring(lease), unpack(new) }
