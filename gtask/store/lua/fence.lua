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
-- command of a script. So the flag's life is read before and after the owner's: where both are the same, all three were
-- read in one millisecond. Where that never succeeds, because each command takes long, the owner has the benefit of the
-- doubt.
local function untouched(flag, owner)
  local before, life, after
  for _ = 1, 3 do
    before, life, after = redis.call('PTTL', flag), redis.call('PTTL', owner), redis.call('PTTL', flag)
    if before == after then break end
  end
  return after - life <= OWNER_EARLIER and OWNER_EARLIER <= before - life
end

local function fence(flag, owner, generator, id, term)
  if redis.call('GET', owner) ~= id then return 'gone' end
  if not untouched(flag, owner) then return 'overwritten' end
  if redis.call('HGET', generator, 'term') ~= term then return 'other term' end
  return 'held'
end

