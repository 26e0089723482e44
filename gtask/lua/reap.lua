-- Promise: what a dead task (silent for 5 of its heartbeats) held goes back to the head of `messages` in its
-- old order, exactly once, however many try. A message that was alone in the hands of its killer's victims for
-- the `limit`-th time goes to `errors`; one of several becomes a suspect and is from then on delivered alone,
-- so that only the culprit is ever blamed. What was on the list but not handed out is blamed for nothing.
-- A BLMOVE of the task that was on its way brings its message back too, however late (up to an hour): the id moves from
-- `tasks` to `reaped`, its score there is the time of the next look, and each is twice as late as the one before.
-- KEYS messages inflight tasks members claims errors totals suspects reaped
-- ARGV id limit message record (the single message that the list held when the caller looked, and its failure record)
-- -> {moved, poisoned}, {-1, 0}: alive, {-2, 0}: look again
local messages, inflight, tasks, members, claims, errors, totals, suspects, reaped = unpack(KEYS)
local id, limit, message, record = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local member = redis.call('HGET', members, id)
local settings = member and cjson.decode(member)
local beat = redis.call('ZSCORE', tasks, id)
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
if member and (not beat or now - beat < 5 * settings.heartbeat) then return {-1, 0} end

local length = redis.call('LLEN', inflight)
local last = redis.call('HGET', claims, id)
local held = math.min(length, last and tonumber(string.match(last, '(%d+)$')) or 0)
local moved, poisoned = 0, 0
local function back()
  redis.call('LMOVE', inflight, messages, 'RIGHT', 'LEFT')
  moved = moved + 1
end
if held == 1 then
  if redis.call('LINDEX', inflight, 0) ~= message then return {-2, 0} end
end
-- A full Redis (maxmemory) refuses a script whose first write may take memory; this one takes next to none.
redis.call('HDEL', members, id)
for i = held + 1, length do back() end
if held == 1 then
  local hash = redis.sha1hex(message)
  if redis.call('HINCRBY', suspects, hash, 1) >= limit then
    redis.call('HDEL', suspects, hash)
    redis.call('RPUSH', errors, record)
    redis.call('HINCRBY', totals, 'processed', 1)
    redis.call('HINCRBY', totals, 'errors', 1)
    poisoned = 1
  else
    back()
  end
else
  for i = 1, held do
    redis.call('HSETNX', suspects, redis.sha1hex(redis.call('LINDEX', inflight, -1)), 1)
    back()
  end
end
redis.call('DEL', inflight)
if moved > 0 then redis.call('HINCRBY', totals, 'redelivered', moved) end
if redis.call('EXISTS', suspects) == 1 then redis.call('EXPIRE', suspects, 86400) end
local since = not member and last and tonumber(string.match(last, '^0 (%d+) 0 0$'))
redis.call('ZREM', tasks, id)
if member then
  redis.call('HSET', claims, id, string.format('0 %d 0 0', now))
  redis.call('ZADD', reaped, now + settings.wait, id)
elseif since and now - since < 3600 then
  local look = redis.call('ZSCORE', reaped, id)
  if not look or tonumber(look) <= now then redis.call('ZADD', reaped, now + (now - since), id) end
else
  redis.call('HDEL', claims, id)
  redis.call('ZREM', reaped, id)
end
return {moved, poisoned}
