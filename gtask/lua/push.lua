-- needs: constants fence
-- Promise: messages are pushed only by the owner of the flag in its term, each once and in order. A repeat
-- after a lost reply changes nothing; count and `last` move in the same step as the messages, and so does the time of
-- the last push. The first push of a term shows that it works, and ends what release.lua keeps about those that failed.
-- Ids and terms of a Redis that was emptied begin anew, so the member says who asks.
-- KEYS flag owner generator messages members
-- ARGV id member term generated(before this push) first(1: of this term) message...
-- -> length of messages, or -1: deposed
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
