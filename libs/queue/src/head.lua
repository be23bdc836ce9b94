-- Before scripts that need it. A record without its outputs and labels, which may be megabytes and stand last (the worker
-- writes them so): the text is cut before them, and neither parsed nor sent. Inside a JSON string the quote would be escaped,
-- and nothing else in a record has an object under this name.
local function head_of(record)
  local outputs = string.find(record, ',"outputs":{', 1, true)
  return outputs and string.sub(record, 1, outputs - 1) .. '}' or record
end

