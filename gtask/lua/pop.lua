-- Promise: takes up to `want` messages, and stops after about `bytes` of them, so that a list of huge
-- messages does not come in one reply; where no more wait, those that at-least-once tasks have put aside (claim.lua).
-- May not be repeated as a call whose answer was lost: what this returns is out of Redis (at-most-once), so a second call
-- takes other messages, and those of the lost reply are gone. Its caller asks for less then.
-- KEYS messages apart ; ARGV want bytes -> {message...}
local want, bytes, got, n = tonumber(ARGV[1]), tonumber(ARGV[2]), {}, 0 -- n: #got, which Lua would search for
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
