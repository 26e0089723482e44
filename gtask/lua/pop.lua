-- Promise: takes up to `want` messages, and stops after about `bytes` of them, so that a list of huge
-- messages does not come in one reply. (At-most-once: what this returns is out of Redis.)
-- KEYS messages ; ARGV want bytes -> {message...}
local want, bytes, got = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
while want > 0 and bytes > 0 do
  local chunk = redis.call('LPOP', KEYS[1], math.min(want, 16))
  if not chunk then break end
  for i = 1, #chunk do
    got[#got + 1] = chunk[i]
    bytes = bytes - #chunk[i]
  end
  want = want - #chunk
end
return got
