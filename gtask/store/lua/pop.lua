-- Promise: takes up to `want` messages out of Redis (at-most-once delivery), but no more after about `bytes` of them,
-- so that a list of huge messages does not come in one reply. When the queue is empty it takes what at-least-once tasks
-- have put apart (claim.lua).
-- It cannot be repeated. When the reply is lost its messages are lost, as this way of delivery permits, and a second
-- call takes others. Its caller does call again, as a new request and for less: perhaps the reply was too large.
-- KEYS messages apart ; ARGV want bytes -> {message...}
local want, bytes, got, n = tonumber(ARGV[1]), tonumber(ARGV[2]), {}, 0 -- n is #got, for which Lua would have to search
-- When another program keeps something else in the second list, the script ends here, before anything is taken.
redis.call('LLEN', KEYS[2])
for _, list in ipairs(KEYS) do
  local step = 1
  while want > 0 and bytes > 0 do
    local chunk = redis.call('LPOP', list, math.min(want, step))
    if not chunk then break end
    for i = 1, #chunk do
      local message = chunk[i]
      got[n + i] = message
      bytes = bytes - #message
    end
    n = n + #chunk
    want, step = want - #chunk, math.min(2 * step, 16)
  end
end
return got
