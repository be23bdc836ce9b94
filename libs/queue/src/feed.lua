-- Reads a tenant's feed, and keeps it: where it is missing it is made, so that settling writes to it from now on.
--
-- KEYS  1 feed
-- ARGV  1 seconds to keep it   2 the entry that was read last ('' = only the last one of all is wanted)
--       3 '(' = read on after that entry, '' = read it again   4 entries at most
-- Returns whether that entry is still there (1 or 0). Where it is not, something may have been missed, and the feed is read from
-- its beginning. Then the entries.
local feed, keep, last = KEYS[1], ARGV[1], ARGV[2]
if redis.call('EXISTS', feed) == 0 then redis.call('XADD', feed, '*', 'created', '') end
-- Read four times a second: not each time is a write.
if redis.call('PTTL', feed) < keep * 500 then redis.call('EXPIRE', feed, keep) end
if last == '' then return { 1, redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1) } end
local there = #redis.call('XRANGE', feed, last, last)
return { there, redis.call('XRANGE', feed, there == 1 and ARGV[3] .. last or '-', '+', 'COUNT', ARGV[4]) }
