-- Reads what a pool is asked for and what serves it; and takes back bookings of what never came to the queue: of a producer that
-- died between booking and adding, of an add that was lost. Each reading looks at some bookings, of a pool at rest at all.
-- One whose job is missing is marked, and given up where it is missing still when no add can be under way any more.
--
-- KEYS  1 depth hash   2 bookings   3 work hash   4 replicas hash   5 decision   6 to come   then per lane its keys: wait, active, prioritized
-- ARGV  1 prefix of results hashes   2 how many bookings to look at   3 ms for which an add may be under way
--       4 ms after which a replica that was not heard of is gone   5 ms after which a note of what is to come counts no more
--       then per lane: its name, prefix of its job hashes
-- Returns: now (ms); the depth, the work and the live replicas (field, value, … each); the depth of what workers have claimed,
-- likewise; when each lane's oldest waiting job was added (ms since the epoch, 0 = none waits); the decision ('' = none); what
-- is to come (when it was first noted, model version, rows, …).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local jobs = {}
for i = 6, #ARGV, 2 do jobs[ARGV[i]] = ARGV[i + 1] end

-- A prediction that is tried again has left its bundle's job for one of its own (marks.ts).
local function is_retried(job, id)
  local results = ARGV[1] .. id
  for _, field in ipairs(redis.call('HKEYS', results)) do
    local index = string.match(field, '^retry:(%d+)$')
    if index and redis.call('HEXISTS', results, index) == 0 then
      local retry = cjson.decode(redis.call('HGET', results, field))
      if redis.call('EXISTS', job .. retry.jobId) == 1 then return true end
    end
  end
  return false
end

local function take_back_lost()
  local seen = redis.call('HRANDFIELD', KEYS[2], ARGV[2], 'WITHVALUES')
  for i = 1, #seen, 2 do
    local id, value = seen[i], seen[i + 1]
    local booking, lane, since = string.match(value, '^(%d+ (%a+)/%S+) ?(%d*)$')
    local job = jobs[lane]
    local carried = redis.call('EXISTS', job .. id) == 1 or is_retried(job, id)
    if carried and since ~= '' then
      redis.call('HSET', KEYS[2], id, booking)
    elseif not carried and since == '' then
      redis.call('HSET', KEYS[2], id, booking .. ' ' .. string.format('%.0f', now))
    elseif not carried and now - since >= tonumber(ARGV[3]) then
      release(KEYS[1], KEYS[2], id)
    end
  end
end

local function live_replicas()
  local all, live = redis.call('HGETALL', KEYS[4]), {}
  for i = 1, #all, 2 do
    if now - string.match(all[i + 1], '%d+$') > tonumber(ARGV[4]) then
      redis.pcall('HDEL', KEYS[4], all[i])
    else
      live[#live + 1] = all[i]
      live[#live + 1] = all[i + 1]
    end
  end
  return live
end

local function still_to_come()
  local all, counting = redis.call('HGETALL', KEYS[6]), {}
  for i = 1, #all, 2 do
    local since, noted, model, rows = string.match(all[i + 1], '^(%d+) (%d+) (%S+) (%d+)$')
    if now - noted > tonumber(ARGV[5]) then
      redis.pcall('HDEL', KEYS[6], all[i])
    else
      for _, value in ipairs({ since, model, rows }) do counting[#counting + 1] = value end
    end
  end
  return counting
end

-- A bundle runs while a worker has its job, or that of one of its predictions that is tried again.
local claimed = {}
local function count_claimed(active)
  local counted = {}
  for _, id in ipairs(redis.call('LRANGE', active, 0, -1)) do
    id = string.match(id, '^(.*)%-%d+%-retry%d+$') or id
    local rows, path = booking_of(KEYS[2], id)
    if rows and not counted[id] then
      counted[id] = true
      claimed[path] = (claimed[path] or 0) + rows
    end
  end
end

-- The first of each priority class: BullMQ's score is the priority × 2^32 plus a counter.
local function firsts(prioritized)
  local ids, from = {}, '-inf'
  while true do
    local first = redis.call('ZRANGEBYSCORE', prioritized, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if not first[1] then return ids end
    ids[#ids + 1] = first[1]
    from = string.format('%.0f', (math.floor(tonumber(first[2]) / 2 ^ 32) + 1) * 2 ^ 32)
  end
end

local function oldest_of(job, wait, prioritized)
  local oldest, waiting = 0, firsts(prioritized)
  waiting[#waiting + 1] = redis.call('LINDEX', wait, -1) or nil
  for _, id in ipairs(waiting) do
    local added_at = tonumber(redis.call('HGET', job .. id, 'timestamp'))
    if added_at and (oldest == 0 or added_at < oldest) then oldest = added_at end
  end
  return oldest
end

-- Where Redis takes no writes there is still something to read.
pcall(take_back_lost)
local oldest = {}
for i = 7, #KEYS, 3 do
  local wait, active, prioritized = unpack(KEYS, i, i + 2)
  oldest[#oldest + 1] = oldest_of(ARGV[5 + 2 * (#oldest + 1)], wait, prioritized)
  count_claimed(active)
end
local running = {}
for path, rows in pairs(claimed) do
  running[#running + 1] = path
  running[#running + 1] = rows
end
return { string.format('%.0f', now), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[3]), live_replicas(), running, oldest, redis.call('GET', KEYS[5]) or '', still_to_come() }
