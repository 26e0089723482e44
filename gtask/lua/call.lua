-- What Redis remembers of a task's last numbered call, and what the task holds.
-- `claims` has it as "seq count state held long bytes": the call's number; how many messages it handed out; the state
-- that it answered (claim.lua); how many of the first elements of the in-flight list have been handed out (those behind
-- them were put there by BLMOVE); how many more messages the hash `long` has; how large a reply was asked for.
-- Of a task that is dead, or has left, it has "died second": when that was, on the clock of Redis.
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

-- How the call `seq` of a task stands to the last one of which Redis knows, and that one: 'next', 'repeat', 'late' (there
-- was a later one), 'gap' (this Redis has gone back in time and lacks calls, so it does not know what the task holds), or
-- 'stranger' (not this task's id, or not any more).
local function enter(members, claims, id, member, seq)
  if redis.call('HGET', members, id) ~= member then return 'stranger' end
  local last = last_call(claims, id)
  if last.seq == seq then return 'repeat', last end
  if last.seq > seq then return 'late', last end
  return last.known and last.seq < seq - 1 and 'gap' or 'next', last
end

-- LREM searches a list from its head, so an acknowledgement would cost more the more long-running messages stand
-- before what it looks for. They are moved into the hash `long`: message -> the places that it had ("17 23" where there
-- are two equal ones), each place a number that grows in the order of the list.
local function put_away(inflight, long, count, seq)
  for i = 1, count do
    local message = redis.call('LPOP', inflight)
    local places = redis.call('HGET', long, message)
    redis.call('HSET', long, message, (places and places .. ' ' or '') .. string.format('%.0f', seq * 1000000 + i))
  end
end
local function take_out(long, message)
  local places = redis.call('HGET', long, message)
  if not places then return false end
  local rest = string.match(places, '^%d+ (.+)$')
  if rest then redis.call('HSET', long, message, rest) else redis.call('HDEL', long, message) end
  return true
end
-- All of them return to the head of the in-flight list, in their old order.
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

