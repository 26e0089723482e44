-- Promise: 'held' only while task `id` owns the flag in its term `term` and nobody
-- has set the flag since.
-- Another program's SET of the flag knows nothing of owners; it shows in the flag's life. Flag and owner expire at two
-- moments that lie 5 ms apart, and the flag 1 ms before the time that its SET gave it. So whoever sets it again moves
-- it, even with the same life within the same millisecond.
local function expire_together(flag, owner, at) -- at: in milliseconds since 1970, so that no delay in between counts
  redis.call('PEXPIREAT', flag, string.format('%.0f', at - FLAG_EARLIER))
  redis.call('PEXPIREAT', owner, string.format('%.0f', at - FLAG_EARLIER - OWNER_EARLIER))
end

-- Servers before 7.2 read the clock anew for each command of a script: the flag's life at the moment when the owner's was
-- read lies between the two readings around it. Nearly always the first one says enough already.
local function untouched(flag, owner)
  local before, life = redis.call('PTTL', flag), redis.call('PTTL', owner)
  local apart = before - life
  return apart == OWNER_EARLIER or apart > OWNER_EARLIER and redis.call('PTTL', flag) - life <= OWNER_EARLIER
end

local function fence(flag, owner, generator, id, term)
  if redis.call('GET', owner) ~= id then return 'gone' end
  if not untouched(flag, owner) then return 'overwritten' end
  if redis.call('HGET', generator, 'term') ~= term then return 'other term' end
  return 'held'
end

