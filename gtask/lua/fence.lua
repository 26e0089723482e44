-- Put before beat, push and release. Promise: 'held' only while task `id` owns the flag in its term `term`
-- and nobody has set the flag since. The owner key lives 5 ms shorter than the flag and both are set in one
-- step, so a distance of another length means that another program has set the flag (2 ms of tolerance:
-- Redis 6.2 reads the clock anew for each command of a script).
local function fence(flag, owner, generator, id, term)
  if redis.call('GET', owner) ~= id then return 'gone' end
  local apart = redis.call('PTTL', flag) - redis.call('PTTL', owner)
  if apart < 3 or apart > 7 then return 'overwritten' end
  if redis.call('HGET', generator, 'term') ~= term then return 'other term' end
  return 'held'
end

