-- Reads a pool's depth. The counters are adjusted beside the queue and not by it, so an API node that dies between the two
-- leaves them wrong; a lane without a bundle sets its own right again. It must be found so twice with the same count: a
-- bundle may be counted a moment before it is queued.
--
-- KEYS  1 depth hash   then per lane its keys: wait, active, delayed, prioritized
-- ARGV  per lane: its name, prefix of its job hashes
-- Returns the hash (field, value, …) and, per lane, when its oldest waiting bundle was added (ms since the epoch, 0 = none waits).
local fields = redis.call('HGETALL', KEYS[1])

local function valueOf(field)
  for i = 1, #fields, 2 do
    if fields[i] == field then return fields[i + 1] end
  end
  return '0'
end

local function setRight(lane)
  local count, seen = valueOf(lane), 'seen/' .. lane
  if count ~= '0' and valueOf(seen) ~= count then
    redis.call('HSET', KEYS[1], seen, count)
    return
  end
  redis.call('HDEL', KEYS[1], seen)
  for i = 1, #fields, 2 do
    if fields[i] == lane or string.sub(fields[i], 1, #lane + 1) == lane .. '/' then
      redis.call('HDEL', KEYS[1], fields[i])
      fields[i + 1] = '0'
    end
  end
end

-- The first of each priority class: BullMQ's score is the priority × 2^32 plus a counter.
local function firsts(prioritized)
  local jobs, from = {}, '-inf'
  while true do
    local first = redis.call('ZRANGEBYSCORE', prioritized, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if not first[1] then return jobs end
    jobs[#jobs + 1] = first[1]
    from = string.format('%.0f', (math.floor(tonumber(first[2]) / 2 ^ 32) + 1) * 2 ^ 32)
  end
end

local oldest = {}
for i = 1, #ARGV / 2 do
  local lane, job = ARGV[2 * i - 1], ARGV[2 * i]
  local wait, active, delayed, prioritized = unpack(KEYS, 4 * i - 2, 4 * i + 1)
  local held = redis.call('LLEN', wait) + redis.call('LLEN', active) + redis.call('ZCARD', delayed) + redis.call('ZCARD', prioritized)
  oldest[i] = 0
  if held == 0 then
    setRight(lane)
  else
    local waiting = firsts(prioritized)
    waiting[#waiting + 1] = redis.call('LINDEX', wait, -1) or nil
    for _, id in ipairs(waiting) do
      local addedAt = tonumber(redis.call('HGET', job .. id, 'timestamp'))
      if addedAt and (oldest[i] == 0 or addedAt < oldest[i]) then oldest[i] = addedAt end
    end
  end
end
return { fields, oldest }
