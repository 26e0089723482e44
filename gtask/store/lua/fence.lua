-- Promise: `fence` says 'held' only while task `id` owns the flag in its term, and nobody has set the flag since.
-- Another program that sets the flag does not know of owners. It gives itself away by the flag's life: we let flag and
-- owner end 5 ms apart, and the flag 1 ms earlier than its SET said. So whoever sets the flag again moves its end, even
-- with the same life and within the same millisecond.
-- `at` is a moment in milliseconds since 1970. With remaining times instead, a delay between the commands would count.
local function expire_together(flag, owner, at)
  redis.call('PEXPIREAT', flag, string.format('%.0f', at - FLAG_EARLIER))
  redis.call('PEXPIREAT', owner, string.format('%.0f', at - FLAG_EARLIER - OWNER_EARLIER))
end

-- Whether flag and owner still end as far apart as we have set them. Servers before 7.2 read the clock anew for each
-- command of a script, so the flag's life at the moment at which the owner's was read lies between the readings before
-- and after it. The second reading is made only where the first one leaves a doubt.
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

