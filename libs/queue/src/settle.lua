-- Settles predictions of one bundle: the first write of each wins. Adjusts the depth for those that were new, wakes the API
-- nodes that wait, and tells the results queue and the tenant's feed. Returns the indexes that were new.
--
-- KEYS  1 results hash   2 depth hash   3 results queue   4 feed of the tenant   5 listeners hash
--       6 the bundle's own reply stream, where somebody waited at submission
-- ARGV  1 bundle id   2 tenant   3 lane   4 retention (s)   5 prefix of reply streams   6 reply stream length
--       7 channel of cancellations ('' = do not publish)   8 feed length
--       then per prediction: index, rows, record, reply ('' = none), whom to notify as JSON ('' = none)
local first, per = 9, 5
local asked = { 'waiters' }
for i = first, #ARGV, per do asked[#asked + 1] = ARGV[i] end
local known = redis.call('HMGET', KEYS[1], unpack(asked))
local listening = redis.call('HGET', KEYS[5], ARGV[2])
local followed = redis.call('EXISTS', KEYS[4]) == 1

local fields, reply, new, rows = { 'tenant', ARGV[2] }, { 'bundle', ARGV[1] }, {}, 0
local queue, feed = { 'tenant', ARGV[2], 'bundle', ARGV[1] }, { 'bundle', ARGV[1] }
for i = first, #ARGV, per do
  if not known[2 + (i - first) / per] then
    local index, record, notify = ARGV[i], ARGV[i + 2], ARGV[i + 4]
    new[#new + 1] = index
    rows = rows + tonumber(ARGV[i + 1])
    fields[#fields + 1] = index
    fields[#fields + 1] = record
    reply[#reply + 1] = index
    reply[#reply + 1] = ARGV[i + 3]
    if notify ~= '' or listening and string.find(listening, string.match(record, '^{"outcome":"(%a+)"'), 1, true) then
      queue[#queue + 1] = index
      queue[#queue + 1] = '[' .. (notify == '' and 'null' or notify) .. ',' .. head_of(record) .. ']'
    end
    if followed then
      feed[#feed + 1] = index
      feed[#feed + 1] = head_of(record)
    end
  end
end
if #new == 0 then return new end

redis.call('HSET', KEYS[1], unpack(fields))
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('HINCRBY', KEYS[2], 'settled', rows)
for _, field in ipairs({ ARGV[3], ARGV[3] .. '/' .. ARGV[2] }) do
  -- Below 0 the counter was set right in between: then it starts anew.
  if redis.call('HINCRBY', KEYS[2], field, -rows) <= 0 then redis.call('HDEL', KEYS[2], field) end
end
if #queue > 4 then redis.call('XADD', KEYS[3], '*', unpack(queue)) end
if followed then redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*', unpack(feed)) end

-- NOMKSTREAM: the stream of an API node that is gone has expired, and is not made again.
local function wake(stream)
  redis.call('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[6], '*', unpack(reply))
end
if KEYS[6] then wake(KEYS[6]) end
if known[1] then
  for node in string.gmatch(known[1], '%S+') do
    local stream = ARGV[5] .. node
    if stream ~= KEYS[6] then wake(stream) end
  end
end
if ARGV[7] ~= '' then
  for _, index in ipairs(new) do redis.call('PUBLISH', ARGV[7], ARGV[1] .. '-' .. index) end
end
return new
