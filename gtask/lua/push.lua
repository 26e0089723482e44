-- needs: constants fence
-- Promise: only the owner of the flag pushes in its term, each message once and in order. The count of messages, the
-- position `last` and the time of the last push change in the same step.
-- May be repeated: a push that has arrived already is recognised by the count, and changes nothing.
-- The first push of a term shows that generating works, so it deletes what release.lua keeps about terms that failed.
-- Ids and terms begin anew when Redis is emptied, so two tasks may have the same ones; the member says who asks.
-- KEYS flag owner generator messages members
-- ARGV id member term generated(before this push) first(1: the first one of this term) message...
-- -> length of `messages`, or -1: deposed
local flag, owner, generator, messages, members = unpack(KEYS)
local id, term, before = ARGV[1], ARGV[3], tonumber(ARGV[4])
local count = #ARGV - 5

if redis.call('HGET', members, id) ~= ARGV[2] then return -1 end
if fence(flag, owner, generator, id, term) ~= 'held' then return -1 end
local generated = tonumber(redis.call('HGET', generator, 'generated') or 0)
if generated == before + count then return redis.call('LLEN', messages) end
if generated ~= before then return -1 end
local length
for i = 6, #ARGV, 1000 do
  length = redis.call('RPUSH', messages, unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', generator, 'generated', before + count, 'last', ARGV[#ARGV], 'pushed_at', now)
if ARGV[5] == '1' then redis.call('HDEL', generator, 'failures', 'failed', 'retry_at', 'error') end
return length
