-- needs: constants fence append
-- Promise: only the owner of the flag pushes in its term, each message once and in order. The count of messages, the
-- position `last` and the time of the last push change in the same step.
-- May be repeated: the pushes of a term are numbered from 1 on. One that has arrived already is recognised by its number
-- and changes nothing, and one that comes too late cannot set the position back. That holds for a push without messages
-- too, which moves the position alone, or says that `generate` has ended.
-- The first push of a term shows that generating works, so it deletes what release.lua keeps about terms that failed.
-- Ids and terms begin anew when Redis is emptied, so two tasks may have the same ones; the member says who asks.
-- KEYS flag owner generator messages members later
-- ARGV id member term number(of this push within the term), and one of
--      'messages' message...              the last message is the position
--      'position' position message...     the position stands beside the messages
--      'ended'
-- -> the backlog: how many messages wait, or wait to come again; or -1: deposed
local flag, owner, generator, messages, members, later = unpack(KEYS)
local id, term, step, what = ARGV[1], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local first = what == 'position' and 7 or 6
local count = #ARGV - first + 1

if redis.call('HGET', members, id) ~= ARGV[2] then return -1 end
if fence(flag, owner, generator, id, term) ~= 'held' then return -1 end
local done, generated = unpack(redis.call('HMGET', generator, 'step', 'generated'))
done = tonumber(done or 0)
local postponed = redis.call('ZCARD', later)
if done == step then return redis.call('LLEN', messages) + postponed end
if done ~= step - 1 then return -1 end
generated = (generated or 0) + count -- fails here, before anything is pushed, when another program's text stands there
-- A full Redis (maxmemory) refuses a script whose first write may take memory. It is messages that have to wait for room,
-- so a push without any begins by freeing some.
if count == 0 then redis.call('HDEL', generator, 'ended') end
local length = append(messages, first, #ARGV)
if what == 'ended' then
  redis.call('HSET', generator, 'step', step, 'ended', 1)
elseif not length then
  redis.call('HSET', generator, 'step', step, 'last', ARGV[6])
else
  local time = redis.call('TIME')
  local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local last = what == 'position' and ARGV[6] or ARGV[#ARGV]
  redis.call('HSET', generator, 'step', step, 'generated', generated, 'last', last,
             'pushed_at', now)
end
if step == 1 then redis.call('HDEL', generator, 'failures', 'failed', 'retry_at', 'error') end
return (length or redis.call('LLEN', messages)) + postponed
