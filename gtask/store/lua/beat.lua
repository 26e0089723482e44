-- needs: constants fence due
-- Promise: one heartbeat. It marks the task as alive, and renews the flag if the task owns it in its term. Otherwise it
-- takes the flag for a task that wants it, as soon as the flag is free. At most one task is told that it generates, and
-- each election begins a higher term than all before it.
-- May be repeated: a task that was elected but lost the reply does not know its term, so it is elected once more.
--
-- A task of which Redis has not heard for 5 of its heartbeats is dead. There are three exceptions:
-- - Redis itself, or the whole machine, may have stood still. Then all tasks seem silent, so nobody is called dead
--   within the 3 heartbeats after it. The first one to beat afterwards may be a new task, so joining counts as a beat.
-- - The clock may have stepped back. Then the last beats lie in the future, and would hide a death until the clock is
--   there. So such a beat counts as one of this moment, a flag that lives longer than its owner gave it is cut, and what
--   is to come again does so as much earlier.
-- - `tasks` may have been deleted. Then a member that is missing there counts as heard of now. Otherwise nobody would
--   ever take back what a dead one holds.
--
-- After a term that failed nobody gets the flag before `retry_at` (release.lua). The remaining time in the answer is that
-- of this pause.
--
-- The hash `generator` remembers which function generates, because the demo and somebody's own functions must not share
-- keys: each would handle the other's messages. Keys without that mark come from another program or an older version
-- and are anybody's. A member without it, of an older version while a fleet is being renewed, may go on.
-- KEYS flag owner generator tasks members resumed reaped messages later
-- ARGV id member term(0: a handler) flag_seconds heartbeat want(0|1) join(0|1)
-- -> {role, term, ms until the flag can be taken, {ids for the reaper}, Redis' time in ms}, role 0: handler,
--    1: renewed, 2: elected.
--    Who is elected learns three things more: the `generate` of the term before, the ms since the last push, and where to
--    go on. That is {last}, or 0 where `last` is so large that position.lua has to be asked for it, because the flag must
--    be renewed while it travels.
--    {-1}: the task is no member, because it was reaped or Redis was emptied, or its number belongs to another task.
--    {-2, generate}: it may neither join nor generate, because these keys belong to that other function.
local flag, owner, generator, tasks, members, resumed, reaped, messages, later = unpack(KEYS)
local id, member, term, seconds, heartbeat, want, join = unpack(ARGV)
want = want == '1'

local known = redis.call('HGET', members, id)
if known and known ~= member or not known and join == '0' then return {-1} end
if not known and redis.call('ZSCORE', reaped, id) then return {-1} end
local generate, theirs = cjson.decode(member).generate, redis.call('HGET', generator, 'generate')
local demo = 'gtask.demo:generate'
if theirs and generate and (theirs == demo) ~= (generate == demo) then return {-2, theirs} end
local time = redis.call('TIME')
local now, stamp = time[1] + time[2] / 1000000, string.format('%d.%06d', time[1], time[2])
local still = redis.call('ZCOUNT', tasks, now - STILL_AFTER * heartbeat, now) == 0
local latest = redis.call('ZRANGE', tasks, -1, -1, 'WITHSCORES')[2]
-- A full Redis (maxmemory) refuses a script whose first write may take memory, so this script begins by freeing some.
redis.call('ZREM', tasks, id)
if not known then redis.call('HSET', members, id, member) end
if still and redis.call('EXISTS', tasks) == 1 then
  local life = string.format('%d', math.floor(1000 * STILL_AFTER * heartbeat))
  redis.call('SET', resumed, life, 'PX', life)
end
redis.call('ZADD', tasks, stamp, id)
for _, other in ipairs(redis.call('ZRANGEBYSCORE', tasks, '(' .. stamp, '+inf')) do
  redis.call('ZADD', tasks, stamp, other)
end
if redis.call('ZCARD', tasks) < redis.call('HLEN', members) then
  for _, other in ipairs(redis.call('HKEYS', members)) do redis.call('ZADD', tasks, 'NX', stamp, other) end
end

if redis.call('EXISTS', later) == 1 then
  local ahead = (tonumber(latest) or now) - now
  if ahead > SMALL_STEP then come_earlier(later, ahead) end
  return_due(later, messages)
end

-- A pause that is longer than release.lua gives shows that the clock of Redis was set back.
local retry_at, failures = unpack(redis.call('HMGET', generator, 'retry_at', 'failures'))
local pause = (retry_at or 0) - now * 1000
if pause > 0 and pause <= longest_pause(failures or 1) then want = false else pause = -2 end

local role, state = 0, fence(flag, owner, generator, id, term)
if state == 'held' then
  role = 1
  redis.call('SET', flag, '1', 'EX', seconds)
elseif state == 'other term' then
  if want then
    role = 2
    redis.call('SET', flag, '1', 'EX', seconds)
  end
else
  if state == 'overwritten' then redis.call('DEL', owner) end
  if want and redis.call('SET', flag, '1', 'NX', 'EX', seconds) then role = 2 end
end
local milliseconds = 1000 * time[1] + math.floor(time[2] / 1000)
if role > 0 then
  redis.call('SET', owner, id, 'EX', seconds)
  expire_together(flag, owner, milliseconds + 1000 * seconds)
else
  local life = 1000 * (redis.call('HGET', generator, 'life') or math.huge)
  if redis.call('PTTL', flag) > life and untouched(flag, owner) then
    expire_together(flag, owner, milliseconds + life)
  end
end
if role == 2 then
  term = redis.call('HINCRBY', generator, 'term', 1)
  redis.call('HSET', generator, 'life', seconds, 'step', 0)
  redis.call('HDEL', generator, 'ended')
  if generate then redis.call('HSET', generator, 'generate', generate) end
end

local look = redis.call('ZRANGEBYSCORE', reaped, '-inf', now, 'LIMIT', 0, 64)
local grace = tonumber(redis.call('GET', resumed))
if not grace then
  local dead = redis.call('ZRANGEBYSCORE', tasks, '-inf', now - DEAD_AFTER * heartbeat, 'LIMIT', 0, 64)
  for i = 1, #dead do look[#look + 1] = dead[i] end
elseif redis.call('PTTL', resumed) > grace then
  redis.call('PEXPIRE', resumed, grace) -- the clock stepped back, so the key would live for too long
end
local answer = {role, tonumber(term), math.max(redis.call('PTTL', flag), math.ceil(pause)), look, milliseconds}
if role == 2 then
  local pushed_at = redis.call('HGET', generator, 'pushed_at')
  answer[6], answer[7] = theirs, pushed_at and math.floor(now * 1000 - pushed_at)
  local small = redis.call('HSTRLEN', generator, 'last') <= LARGEST_POSITION
  answer[8] = small and {redis.call('HGET', generator, 'last')} or 0
end
return answer
