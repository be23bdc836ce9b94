-- What wrk sends and how it checks the answers. Arguments: body, Prefer header ('' for none), what a good answer
-- contains, and a file for the ids of predictions ('' for none). Prints one JSON object.
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  wrk.method = 'POST'
  wrk.body = args[1]
  wrk.headers['content-type'] = 'application/json'
  if args[2] ~= '' then wrk.headers['prefer'] = args[2] end
  expected = args[3]
  if args[4] ~= '' then ids = io.open(args[4], 'w') end
  good, bad, first_bad = 0, 0, ''
end

function response(_, _, body)
  if string.find(body, expected, 1, true) then
    good = good + 1
    if ids then ids:write(string.match(body, '^{"id":"([^"]+)"'), '\n') end
  else
    bad = bad + 1
    if first_bad == '' then first_bad = string.sub(body, 1, 300) end
  end
end

function done(summary, latency)
  local thread = threads[1]
  local errors = summary.errors
  print(string.format('{"good":%d,"bad":%d,"seconds":%f,"p50Ms":%f,"p99Ms":%f,"firstBad":%q}',
    thread:get('good'), thread:get('bad') + errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, thread:get('first_bad')))
end
