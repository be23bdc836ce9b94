-- Ties an idempotency key to the prediction that it is about to make, unless it is tied to another one.
--
-- KEYS  1 hash of the key
-- ARGV  1 fingerprint of the request   2 prediction id   3 seconds to keep it   4 id that may be replaced ('' = none)
-- Returns { 'reserved' }, { 'mismatch' } or { 'taken', id, its age in ms }.
local fingerprint, id, at = unpack(redis.call('HMGET', KEYS[1], 'fingerprint', 'id', 'at'))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if id and fingerprint ~= ARGV[1] then return { 'mismatch' } end
if id and id ~= ARGV[4] then return { 'taken', id, now - at } end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'id', ARGV[2], 'at', now)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return { 'reserved' }
