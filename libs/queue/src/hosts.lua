-- Before scripts about deliveries. KEYS 1 is the sorted set of hosts, KEYS 2 the hash of holds; `due:<host>` is the sorted set
-- of a host's deliveries by when they may be claimed. Times are milliseconds of Redis' own clock: dispatchers' may differ.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- To be called whenever a host's deliveries or its hold have changed.
local function order_host(host, due)
  local earliest = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if not earliest[2] then
    redis.call('ZREM', KEYS[1], host)
  else
    local hold = redis.call('HGET', KEYS[2], host) or 0
    redis.call('ZADD', KEYS[1], math.max(earliest[2], hold), host)
  end
end

