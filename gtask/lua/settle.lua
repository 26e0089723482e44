-- Promise: failed messages leave `errors` only while this reader holds the lock, and only those that it names at
-- the place where it read them; with a message beside the entry, that one goes to the tail of `messages` in the
-- same step. A repeat, or a list that another program changed, moves nothing twice.
-- KEYS errors reader messages totals ; ARGV token start tombstone n entry...(n) message...(n or none)
-- An entry that is to stay is named by the tombstone, which is like no entry (an empty one is an entry too).
-- -> entries removed, or -1: the lock is lost
local errors, reader, messages, totals = unpack(KEYS)
local start, tombstone, n = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
if redis.call('GET', reader) ~= ARGV[1] then return -1 end
local removed = 0
local now = redis.call('LRANGE', errors, start, start + n - 1)
for i = 1, n do
  local entry, message = ARGV[4 + i], ARGV[4 + n + i]
  if now[i] == entry then
    if message then redis.call('RPUSH', messages, message) end
    redis.call('LSET', errors, start + i - 1, tombstone)
    removed = removed + 1
  end
end
if removed > 0 then
  redis.call('LREM', errors, removed, tombstone)
  if #ARGV > 4 + n then redis.call('HINCRBY', totals, 'retried', removed) end
end
return removed
