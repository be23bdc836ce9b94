-- Reads the results of one bundle without their outputs and labels, which may be megabytes and stand last in a record (the
-- worker writes them so): the text is cut before them, and neither parsed nor sent. Inside a JSON string the quote would be
-- escaped, and nothing else in a record has an object under this name.
--
-- KEYS  1 results hash
-- Returns the tenant, then per settled prediction: index, record; and per one that is tried again: retry:<index>, its state.
local fields, summaries = redis.call('HGETALL', KEYS[1]), { '' }
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  if field == 'tenant' then
    summaries[1] = value
  elseif string.find(field, '^%d+$') or string.find(field, '^retry:') then
    local outputs = string.find(value, ',"outputs":{', 1, true)
    summaries[#summaries + 1] = field
    summaries[#summaries + 1] = outputs and string.sub(value, 1, outputs - 1) .. '}' or value
  end
end
return summaries
