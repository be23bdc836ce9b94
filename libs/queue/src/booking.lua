-- What is accepted and not settled is booked: under the id of its bundle or chunk, `<rows left> <lane>/<model>@<version>/<tenant>`,
-- and since when its job is missing, where it is (demand.lua). The depth has the sums of the bookings, by all that stands after
-- the rows. Both change together, and only here: so the depth is right whatever happens beside it, and what is given back
-- twice, or was never booked, cannot make it wrong.
local function book(depth, booked, id, rows, path)
  if redis.call('HSETNX', booked, id, rows .. ' ' .. path) == 0 then return false end
  redis.call('HINCRBY', depth, path, rows)
  return true
end

local function booking_of(booked, id)
  local rows, path = string.match(redis.call('HGET', booked, id) or '', '^(%d+) (%S+)')
  return tonumber(rows), path
end

-- Takes rows out of a booking: all that are left where it does not say how many.
local function release(depth, booked, id, rows)
  local left, path = booking_of(booked, id)
  if not left then return end
  local released = math.min(rows or left, left)
  if released == left then redis.call('HDEL', booked, id) else redis.call('HSET', booked, id, left - released .. ' ' .. path) end
  if redis.call('HINCRBY', depth, path, -released) == 0 then redis.call('HDEL', depth, path) end
  return path
end
