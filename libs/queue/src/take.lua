-- Takes from a key's minute what is wanted, or nothing. The count is forgotten when the minute is over.
-- KEYS: the count
-- ARGV: predictions wanted, predictions allowed, length of the window in ms
-- Returns: 1 where they were granted, what is left, ms until the window ends
local wanted, allowed, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local used = tonumber(redis.call('GET', KEYS[1]) or 0)
local granted = used + wanted <= allowed
if granted and wanted > 0 then
  redis.call('INCRBY', KEYS[1], wanted)
  if used == 0 then redis.call('PEXPIRE', KEYS[1], window) end
  used = used + wanted
end
local rest = redis.call('PTTL', KEYS[1])
return { granted and 1 or 0, math.max(0, allowed - used), rest >= 0 and rest or window }
