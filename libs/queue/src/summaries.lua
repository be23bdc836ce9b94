-- Reads the results of one bundle without their outputs and labels.
--
-- KEYS  1 results hash
-- Returns the tenant, then per settled prediction: index, record; and per one that is tried again: retry:<index>, its state.
local fields, summaries = redis.call('HGETALL', KEYS[1]), { '' }
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  if field == 'tenant' then
    summaries[1] = value
  elseif string.find(field, '^%d+$') or string.find(field, '^retry:') then
    summaries[#summaries + 1] = field
    summaries[#summaries + 1] = head_of(value)
  end
end
return summaries
