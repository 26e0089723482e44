-- needs: constants fence
-- Promise: a look at everything at one moment.
-- May be repeated: it only reads, so a full Redis does not refuse it either.
-- A script has to declare the keys that it reads, those of what each task holds too. So the caller names the tasks that
-- it knows. If these are not the tasks of this moment, the answer says only which they are, and the caller asks again.
-- KEYS flag owner generator tasks members reaped totals messages apart errors later inflight... long... longest...
-- ARGV id... (of each)
-- -> {{id...}}, or {{id...}, seconds, microseconds, owner (nil: another program has the flag), flag's ms,
--    {generator's fields and values}, {task, beat...}, {member, record...}, {total, number...}, waiting, errors,
--    {how many messages each task holds}, messages that come again,
--    {what each task says of the message at which it has been for longest, '' if nothing}}
local flag, owner, generator, tasks, members, reaped, totals, messages, apart, errors, later = unpack(KEYS, 1, 11)

local beats, records = redis.call('ZRANGE', tasks, 0, -1, 'WITHSCORES'), redis.call('HGETALL', members)
local ids, known = {}, {}
-- These are dead, but their lists are still looked at (reap.lua).
local late = redis.call('ZRANGE', reaped, 0, -1, 'WITHSCORES')
for _, pairs in ipairs({beats, records, late}) do
  for i = 1, #pairs, 2 do
    if not known[pairs[i]] then ids[#ids + 1] = pairs[i] end
    known[pairs[i]] = true
  end
end
if #ids ~= #ARGV then return {ids} end
for _, id in ipairs(ARGV) do
  if not known[id] then return {ids} end
end

local fields = {}
for _, field in ipairs(redis.call('HKEYS', generator)) do
  if field ~= 'last' or redis.call('HSTRLEN', generator, 'last') <= LARGEST_POSITION then
    fields[#fields + 1] = field
    fields[#fields + 1] = redis.call('HGET', generator, field)
  end
end
local held, longest = {}, {}
for i = 1, #ids do
  held[i] = redis.call('LLEN', KEYS[11 + i])
  -- Equal messages share an entry, which has a place for each of them (call.lua).
  for _, places in ipairs(redis.call('HVALS', KEYS[11 + #ids + i])) do
    held[i] = held[i] + select(2, string.gsub(places, '%d+', ''))
  end
  longest[i] = redis.call('GET', KEYS[11 + 2 * #ids + i]) or ''
end
local time = redis.call('TIME')
return {ids, time[1], time[2], untouched(flag, owner) and redis.call('GET', owner), redis.call('PTTL', flag), fields,
        beats, records, redis.call('HGETALL', totals), redis.call('LLEN', messages) + redis.call('LLEN', apart),
        redis.call('LLEN', errors), held, redis.call('ZCARD', later), longest}
