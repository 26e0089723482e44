-- needs: constants fence
-- Promise: gives the flag up if it is still this task's in this term, and tells the others, so that they need not wait
-- until it has expired. A term that failed leaves its error, and a pause for the whole fleet: beat.lua grants the flag
-- to nobody before `retry_at`. The pause is 1 s, doubled by each failure in a row up to 60 s, less up to a quarter by
-- chance. It is written also when the flag was lost meanwhile, unless another term has begun since.
-- May be repeated: a second call changes nothing.
-- KEYS flag owner generator members ; ARGV id member term channel, and for a term that failed: error jitter(0..1)
-- -> 1 released, 0 it was not ours; for a term that failed the fleet's pause in ms, 0: none
local flag, owner, generator, members = unpack(KEYS)
local id, term, problem = ARGV[1], ARGV[3], ARGV[5]
if redis.call('HGET', members, id) ~= ARGV[2] then return 0 end
local answer = 0
if fence(flag, owner, generator, id, term) == 'held' then
  redis.call('DEL', owner, flag)
  answer = 1
end
if problem then
  local latest, failed = unpack(redis.call('HMGET', generator, 'term', 'failed'))
  if latest ~= term or failed == term then return 0 end
  -- A full Redis (maxmemory) refuses a script whose first write may take memory, so this script begins by freeing some.
  redis.call('HDEL', generator, 'error')
  local failures = redis.call('HINCRBY', generator, 'failures', 1)
  local pause = math.floor(longest_pause(failures) * (1 - tonumber(ARGV[6]) / 4))
  local time = redis.call('TIME')
  local retry = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + pause)
  redis.call('HSET', generator, 'retry_at', retry, 'error', problem, 'failed', term)
  answer = pause
end
if answer == 0 then return 0 end
redis.pcall('PUBLISH', ARGV[4], 'released') -- it only saves time, so a user without the right to publish does without
return answer
