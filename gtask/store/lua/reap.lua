-- needs: constants call
-- Promise: what a dead task held (it was silent for 5 of its heartbeats) goes back to the head of `messages`, in its
-- old order and exactly once, however many tasks reap it.
-- May be repeated: a second call finds nothing, which is answered as 0 moved. That is no error: another task was
-- quicker, or the task held nothing.
--
-- A death says little about the messages that the task held, because nearly all tasks die of something else. So the
-- messages of a first death (stage 1) are handed out like all others. A message that was in the hands of a second dead
-- task is a suspect. First a few suspects are tried together (stage 2). When those few kill a task, or no more are
-- left, each is tried alone (stage 3). Only a death with nothing else in the task's hands counts against the message
-- itself; after `limit` of these it goes to `errors`. So no neighbour is ever blamed. A message that was on the list
-- but not yet handed out is under no suspicion at all.
--
-- A BLMOVE of the dead task may still be on its way and be served up to an hour later. So the id moves from `tasks` to
-- `reaped`, where its score is the time of the next look at its list. Each look is twice as long after the death as the
-- one before.
-- KEYS messages inflight tasks members claims errors totals suspects reaped long attempts
-- ARGV id limit hash record latest_blmove(seconds after the task's death)
--      `record` is the failure record of the message with this SHA-1, after an answer that asked for it. An empty one
--      stores the message as it is.
-- -> {moved, poisoned}; {-1, 0}: the task lives; {-2, bytes, hash}: it holds one message, of this size, which goes to
--    `errors` as soon as the call comes again with its record
local messages, inflight, tasks, members, claims, errors, totals, suspects, reaped, long, attempts = unpack(KEYS)
local id, limit, prepared, record = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local member = redis.call('HGET', members, id)
local settings = member and cjson.decode(member)
local beat = redis.call('ZSCORE', tasks, id)
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
if member and (not beat or now - beat < DEAD_AFTER * settings.heartbeat) then return {-1, 0} end
local look_at = member and now + settings.wait -- here, where nothing is changed yet: another program's record may lack it

redis.call('HLEN', attempts) -- ends here where another program keeps something else in it
local last = last_call(claims, id)
if last.long > 0 then
  -- A full Redis (maxmemory) refuses a script whose first write may take memory. Here, and below, it frees some.
  redis.call('HDEL', claims, id)
  last.held = last.held + put_back(inflight, long)
  store_call(claims, id, last.seq, 0, last.state, last.held, 0, 0)
end
local length = redis.call('LLEN', inflight)
local held = math.min(length, last.held)

-- What is known of each message that was handed out: its stage, and how many deaths count against it alone.
local known, suspected = {}, 0
for i = 1, held do
  local hash = redis.sha1hex(redis.call('LINDEX', inflight, i - 1))
  local stage, own = string.match(redis.call('HGET', suspects, hash) or '0 0', '^(%d+) (%d+)$')
  known[hash] = {stage = tonumber(stage), own = tonumber(own)}
  if known[hash].stage > 0 then suspected = suspected + 1 end
end
local poisoned = 0
if held == 1 then
  local hash, message = next(known)
  message.own = message.own + 1
  if message.own >= limit then
    if prepared ~= hash then return {-2, #redis.call('LINDEX', inflight, 0), hash} end
    poisoned = 1
  end
end

redis.call('HDEL', members, id)
for i = 1, length - poisoned do redis.call('LMOVE', inflight, messages, 'RIGHT', 'LEFT') end
for hash, message in pairs(known) do
  local stage = message.stage == 0 and 1 or (suspected > SUSPECTS_TOGETHER and 2 or 3)
  redis.call('HSET', suspects, hash, string.format('%d %d', stage, message.own))
  if poisoned == 1 then redis.call('HDEL', suspects, hash) end
  if poisoned == 1 then redis.call('HDEL', attempts, hash) end
end
if poisoned == 1 then
  redis.call('RPUSH', errors, record ~= '' and record or redis.call('LINDEX', inflight, 0))
  redis.call('HINCRBY', totals, 'processed', 1)
  redis.call('HINCRBY', totals, 'errors', 1)
end
redis.call('DEL', inflight)
local moved = length - poisoned
if moved > 0 then redis.call('HINCRBY', totals, 'redelivered', moved) end
if redis.call('EXISTS', suspects) == 1 then redis.call('EXPIRE', suspects, 86400) end
redis.call('ZREM', tasks, id)
if member then
  store_death(claims, id, now)
  redis.call('ZADD', reaped, look_at, id)
elseif last.died and now - last.died < tonumber(ARGV[5]) then
  local look = redis.call('ZSCORE', reaped, id)
  if not look or tonumber(look) <= now then redis.call('ZADD', reaped, now + (now - last.died), id) end
else
  redis.call('HDEL', claims, id)
  redis.call('ZREM', reaped, id)
end
return {moved, poisoned}
