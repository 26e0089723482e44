-- Promise: the entries of a list from `start` on, up to `count` of them, but no more after about `bytes`, so that huge
-- entries do not come in one reply.
-- May be repeated: it only reads.
-- KEYS errors ; ARGV start count bytes -> {entry...}
local at, count, bytes, got = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), {}
local last, step = at + count - 1, 1
while at <= last and bytes > 0 do
  local chunk = redis.call('LRANGE', KEYS[1], at, math.min(at + step - 1, last))
  if #chunk == 0 then break end
  for i = 1, #chunk do
    got[#got + 1] = chunk[i]
    bytes = bytes - #chunk[i]
  end
  at, step = at + #chunk, math.min(2 * step, 16)
end
return got
