-- Promise: messages are pushed only by the owner of the flag in its term, each once and in order. A repeat
-- after a lost reply changes nothing; count and `last` move in the same step as the messages.
-- Ids and terms of a Redis that was emptied begin anew, so the member says who asks.
-- KEYS flag owner generator messages members
-- ARGV id member term generated(before this push) message...
-- -> length of messages, or -1: deposed
local flag, owner, generator, messages, members = unpack(KEYS)
local id, term, before = ARGV[1], ARGV[3], tonumber(ARGV[4])
local count = #ARGV - 4

if redis.call('HGET', members, id) ~= ARGV[2] then return -1 end
if fence(flag, owner, generator, id, term) ~= 'held' then return -1 end
local generated = tonumber(redis.call('HGET', generator, 'generated') or 0)
if generated == before + count then return redis.call('LLEN', messages) end
if generated ~= before then return -1 end
local length
for i = 5, #ARGV, 1000 do
  length = redis.call('RPUSH', messages, unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('HSET', generator, 'generated', before + count, 'last', ARGV[#ARGV])
return length
