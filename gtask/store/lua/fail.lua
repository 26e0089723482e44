-- needs: call
-- Promise: failure records reach `errors` once (at-most-once delivery).
-- May be repeated: a call that has arrived already changes nothing. A gap in the numbers does no harm here, because the
-- task holds nothing in Redis.
-- KEYS members claims errors ; ARGV id member seq record... -> 1, or nil: not a member
local members, claims, errors = unpack(KEYS)
local id, seq = ARGV[1], tonumber(ARGV[3])
local call = enter(members, claims, id, ARGV[2], seq)
if call == 'stranger' then return false end
if call == 'repeat' or call == 'late' then return 1 end
-- Another program may keep something in `errors` that is no list. Then LLEN fails, before anything is changed.
redis.call('LLEN', errors)
-- A full Redis (maxmemory) refuses a script whose first write may take memory, so this script begins by freeing some.
redis.call('HDEL', claims, id)
for i = 4, #ARGV, 1000 do
  redis.call('RPUSH', errors, unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
store_call(claims, id, seq, 0, 0, 0, 0, 0)
return 1
