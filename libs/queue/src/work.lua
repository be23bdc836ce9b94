-- Counts what has been done for good: rows that were settled, and what running rows has cost. `path` is that of a booking.
--
-- costs: rows and µs of micro-batches at least half full, then of others
local function count_work(work, path, rows, costs)
  redis.call('HINCRBY', work, 'settled', rows)
  local model = string.match(path or '', '^[^/]+/([^/]+)/')
  if not model then return end
  for i, fill in ipairs({ 'full', 'partial' }) do
    local ran, us = costs[2 * i - 1], costs[2 * i]
    if ran ~= '0' then
      redis.call('HINCRBY', work, 'ran/' .. fill .. '/' .. model, ran)
      redis.call('HINCRBY', work, 'busy/' .. fill .. '/' .. model, us)
    end
  end
end
