-- needs: call append
-- Promise: what came of handled messages is stored once (at-most-once delivery): failure records reach `errors`, and
-- follow-up messages the tail of `messages`.
-- May be repeated: a call that has arrived already changes nothing. A gap in the numbers does no harm here, because the
-- task holds nothing in Redis.
-- KEYS members claims errors messages totals ; ARGV id member seq n_failed failed... followup... -> 1, or nil: not a
--      member
local members, claims, errors, messages, totals = unpack(KEYS)
local id, seq, failed = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local first_followup = 5 + failed
local followups = #ARGV - 4 - failed
local call = enter(members, claims, id, ARGV[2], seq)
if call == 'stranger' then return false end
if call == 'repeat' or call == 'late' then return 1 end
-- Another program may keep something in these keys that is no list. Then LLEN fails, before anything is changed.
redis.call('LLEN', errors)
redis.call('LLEN', messages)
-- A full Redis (maxmemory) refuses a script whose first write may take memory. So follow-ups are counted before all else,
-- and are refused before anything is changed; failures alone are taken, because then this script frees some first.
if followups > 0 then redis.call('HINCRBY', totals, 'followups', followups) end
redis.call('HDEL', claims, id)
append(errors, 5, 4 + failed)
append(messages, first_followup, #ARGV)
store_call(claims, id, seq, 0, 0, 0, 0, 0)
return 1
