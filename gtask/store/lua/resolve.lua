-- Promise: deals with the first entries of `errors`, in their order. Each of those that it names is removed, or its
-- message goes to the tail of `messages` in the same step and its attempts begin anew, or the entry goes to the tail of
-- `errors` so that the next one comes to the head. So nothing has to be searched in a long list, and no entry is ever
-- lost. An entry that another program has taken meanwhile is passed over. All this happens only while this reader has
-- the right to (lock.lua), which it renews.
-- It cannot be repeated: where entries are equal, a second call would deal with the next ones.
-- KEYS errors reader messages totals attempts
-- ARGV token seconds(that the right lives on), and for each entry its SHA-1 and what becomes of it: `-` removed,
--      `+` stays, `=` retried as it is, `>message` retried as this message
-- -> {entries dealt with, how many of these are not in `errors` any more}, or nil: another reader has the right
local errors, reader, messages, totals, attempts = unpack(KEYS)
local owner = redis.call('GET', reader)
if owner and owner ~= ARGV[1] then return false end
-- When another program keeps something else in these keys, the script ends here, before anything is taken.
redis.call('LLEN', messages)
redis.call('HLEN', attempts)
-- A full Redis (maxmemory) refuses a script whose first write may take memory, so this script begins by freeing some.
redis.call('DEL', reader)
redis.call('SET', reader, ARGV[1], 'EX', ARGV[2])
local dealt, removed, retried = 0, 0, 0
local head = redis.call('LINDEX', errors, 0)
for i = 3, #ARGV, 2 do
  if not head then break end
  if redis.sha1hex(head) == ARGV[i] then
    local what = ARGV[i + 1]
    dealt = dealt + 1
    if what == '+' then
      redis.call('LMOVE', errors, errors, 'LEFT', 'RIGHT')
    else
      removed = removed + 1
      redis.call('LPOP', errors)
      if what ~= '-' then
        retried = retried + 1
        local message = what == '=' and head or string.sub(what, 2)
        redis.call('RPUSH', messages, message)
        redis.call('HDEL', attempts, redis.sha1hex(message))
      end
    end
    head = redis.call('LINDEX', errors, 0)
  end
end
if retried > 0 then redis.call('HINCRBY', totals, 'retried', retried) end
return {dealt, removed}
