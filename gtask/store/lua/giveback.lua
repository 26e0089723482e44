-- needs: call
-- Promise: messages that were taken but not started return to the head of `messages`, in their old order and once. When
-- the task leaves, its membership ends in the same step, and what it still holds (at-least-once) goes back too.
-- May be repeated: the same call again changes nothing. After the task has left it is answered as a stranger's.
-- A BLMOVE of a task that leaves may be served after its end, and bring a message that nobody would look for. Where the
-- task says so (astray), its list is looked at again and again, like that of a dead task (reap.lua).
-- A task that leaves may skip numbers: all that is in its list goes back, whatever Redis knows of it.
-- KEYS messages inflight tasks members claims reaped long
-- ARGV id member seq leave(0|1) astray(0|1) count(not started, at the tail of the list) message...(at-most-once)
-- -> 1, or nil: not a member (it was reaped, or has left), or this Redis does not know of its last calls
local messages, inflight, tasks, members, claims, reaped, long = unpack(KEYS)
local id, seq, leave, count = ARGV[1], tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[6])
local call, last = enter(members, claims, id, ARGV[2], seq)
if call == 'stranger' or (call == 'gap' and not leave) then return false end
if call == 'repeat' or call == 'late' then return 1 end
local held, far = last.held, last.long
if count > held + far then return false end
-- A full Redis (maxmemory) refuses a script whose first write may take memory, so this script begins by freeing some.
redis.call('HDEL', claims, id)
for i = #ARGV, 7, -1 do redis.call('LPUSH', messages, ARGV[i]) end
if leave or count > held then
  held, far = held + put_back(inflight, long), 0
end
local back = redis.call('LLEN', inflight)
if not leave then back = back - held + count end
for i = 1, back do redis.call('LMOVE', inflight, messages, 'RIGHT', 'LEFT') end
if leave then
  redis.call('ZREM', tasks, id)
  redis.call('HDEL', members, id)
  if ARGV[5] == '1' then
    local now = redis.call('TIME')[1]
    store_death(claims, id, now)
    redis.call('ZADD', reaped, now + cjson.decode(ARGV[2]).wait, id)
  end
else
  store_call(claims, id, seq, 0, last.state, held - count, far, 0)
end
return 1
