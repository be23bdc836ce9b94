-- Settles predictions of one bundle: the first write of each wins. Adjusts the depth for those that were new, wakes the API
-- nodes that wait, and tells the results queue and the tenant's feed. Returns the indexes that were new.
--
-- KEYS  1 results hash   2 depth hash   3 bookings   4 work hash   5 results queue   6 feed of the tenant   7 listeners hash
--       8 the bundle's own reply stream, where somebody waited at submission
-- ARGV  1 bundle id   2 tenant   3 retention (s)   4 prefix of reply streams   5 reply stream length
--       6 channel of cancellations ('' = do not publish)   7 feed length   8 to 11 what running rows of the bundle has cost (work.lua)
--       then per prediction: index, rows, record, reply ('' = none), whom to notify as JSON ('' = none)
local first, per = 12, 5
local asked = { 'waiters' }
for i = first, #ARGV, per do asked[#asked + 1] = ARGV[i] end
local known = redis.call('HMGET', KEYS[1], unpack(asked))
local listening = redis.call('HGET', KEYS[7], ARGV[2])
local followed = redis.call('EXISTS', KEYS[6]) == 1

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
redis.call('EXPIRE', KEYS[1], ARGV[3])
count_work(KEYS[4], release(KEYS[2], KEYS[3], ARGV[1], rows), rows, { unpack(ARGV, 8, 11) })
if #queue > 4 then redis.call('XADD', KEYS[5], '*', unpack(queue)) end
if followed then redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[7], '*', unpack(feed)) end

-- NOMKSTREAM: the stream of an API node that is gone has expired, and is not made again.
local function wake(stream)
  redis.call('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[5], '*', unpack(reply))
end
if KEYS[8] then wake(KEYS[8]) end
if known[1] then
  for node in string.gmatch(known[1], '%S+') do
    local stream = ARGV[4] .. node
    if stream ~= KEYS[8] then wake(stream) end
  end
end
if ARGV[6] ~= '' then
  for _, index in ipairs(new) do redis.call('PUBLISH', ARGV[6], ARGV[1] .. '-' .. index) end
end
return new
