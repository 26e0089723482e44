-- What Redis remembers of a task's last numbered call, and what the task holds. Only this file knows the format.
-- The numbers of a task's calls follow one another, and none may be skipped: a gap is how a Redis that has gone back in
-- time, by a restart or a failover, gives itself away.
-- The record in `claims` is "seq count state held long bytes":
--   seq    the number of the call
--   count  how many messages it handed out
--   state  what it said of suspects (claim.lua)
--   held   how many elements at the head of the in-flight list have been handed out; BLMOVE has put the others there
--   long   how many more messages the task holds in the hash `long` (below)
--   bytes  how large a reply was asked for
-- Once a task is dead, or has left, the record is "died second", in seconds on the clock of Redis.
local function last_call(claims, id)
  local record = redis.call('HGET', claims, id) or ''
  local died = tonumber(string.match(record, '^died (%d+)$'))
  local seq, count, state, held, long, bytes = string.match(record, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  return {known = seq and true, seq = tonumber(seq or 0), count = tonumber(count), state = tonumber(state or 0),
          held = tonumber(held or 0), long = tonumber(long or 0), bytes = tonumber(bytes), died = died}
end
local function store_call(claims, id, seq, count, state, held, long, bytes)
  redis.call('HSET', claims, id, string.format('%d %d %d %d %d %d', seq, count, state, held, long, bytes))
end
local function store_death(claims, id, second)
  redis.call('HSET', claims, id, string.format('died %d', math.floor(second)))
end

-- Compares the call `seq` of a task with the last one of which Redis knows, and answers with both:
--   'next'      it follows that one, or it is the first
--   'repeat'    it is that one, whose reply was lost
--   'late'      it is an older one, which has been on its way for long
--   'gap'       calls are missing between the two, so this Redis does not know what the task holds
--   'stranger'  the id is not, or not any more, this task's
local function enter(members, claims, id, member, seq)
  if redis.call('HGET', members, id) ~= member then return 'stranger' end
  local last = last_call(claims, id)
  if last.seq == seq then return 'repeat', last end
  if last.seq > seq then return 'late', last end
  return last.known and last.seq < seq - 1 and 'gap' or 'next', last
end

-- LREM searches a list from its head. So the more long-running messages stand at the head, the more each
-- acknowledgement would cost. They are moved into the hash `long`, which maps a message to the place that it had in the
-- order. Equal messages share one entry with several places ("17 23").
local function put_away(inflight, long, count, seq)
  for i = 1, count do
    local message = redis.call('LINDEX', inflight, 0)
    local places = redis.call('HGET', long, message) -- ends here where another program keeps something else in it
    redis.call('HSET', long, message, (places and places .. ' ' or '') .. string.format('%.0f', seq * 1000000 + i))
    redis.call('LPOP', inflight)
  end
end
local function take_out(long, message)
  local places = redis.call('HGET', long, message)
  if not places then return false end
  local rest = string.match(places, '^%d+ (.+)$')
  if rest then redis.call('HSET', long, message, rest) else redis.call('HDEL', long, message) end
  return true
end
-- Moves all of them back to the head of the in-flight list, in their old order.
local function put_back(inflight, long)
  local places, all = {}, redis.call('HGETALL', long)
  for i = 1, #all, 2 do
    for place in string.gmatch(all[i + 1], '%d+') do places[#places + 1] = {tonumber(place), all[i]} end
  end
  table.sort(places, function(a, b) return a[1] > b[1] end)
  for i = 1, #places do redis.call('LPUSH', inflight, places[i][2]) end
  redis.call('DEL', long)
  return #places
end

