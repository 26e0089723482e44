-- Promise: what a dead task (silent for 5 of its heartbeats) held goes back to the head of `messages` in its
-- old order, exactly once, however many try. A message that was alone in the hands of its killer's victims for
-- the `limit`-th time goes to `errors`; one of several becomes a suspect and is from then on delivered alone,
-- so that only the culprit is ever blamed. What was on the list but not handed out is blamed for nothing.
-- KEYS messages inflight tasks members claims errors totals suspects
-- ARGV id limit message record (the single message that the list held when the caller looked, and its failure record)
-- -> {moved, poisoned}, {-1, 0}: alive, {-2, 0}: look again
local messages, inflight, tasks, members, claims, errors, totals, suspects = unpack(KEYS)
local id, limit, message, record = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local member = redis.call('HGET', members, id)
local beat = redis.call('ZSCORE', tasks, id)
if beat and member then
  local time = redis.call('TIME')
  if time[1] + time[2] / 1000000 - beat < 5 * cjson.decode(member).heartbeat then return {-1, 0} end
end

local length = redis.call('LLEN', inflight)
local last = redis.call('HGET', claims, id)
local held = last and tonumber(string.match(last, '(%d+)$')) or 0
local moved, poisoned = 0, 0
local function back()
  redis.call('LMOVE', inflight, messages, 'RIGHT', 'LEFT')
  moved = moved + 1
end
if held == 1 then
  if redis.call('LINDEX', inflight, 0) ~= message then return {-2, 0} end
end
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
redis.call('ZREM', tasks, id)
redis.call('HDEL', members, id)
redis.call('HDEL', claims, id)
return {moved, poisoned}
