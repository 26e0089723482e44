-- needs: constants call due append
-- Promise: in one step it acknowledges exactly the finished messages, stores what came of them, and moves the next
-- messages into this task's in-flight list. What comes of a message is nothing, a failure record in `errors`, follow-up
-- messages at the tail of `messages`, or that the message itself comes again (`later`); such a one does not count as
-- processed.
-- May be repeated: the same call gives the same answer and changes nothing. If it asks for fewer `bytes` than before,
-- what does not fit any more goes back to the queue. An older call gives nothing. A task that was reaped is refused,
-- and so is one whose calls this Redis does not know, because Redis has gone back in time.
-- A suspect is a message that was in the hands of two dead tasks (reap.lua). Only a task with empty hands gets it,
-- alone or with a few other suspects while there are many. It holds up nobody: whoever meets one in the queue moves it
-- to the list `apart` and goes on to the next message. A task that has nothing else to do takes suspects from there,
-- and a busy task does so when its turn has come.
-- KEYS messages inflight members claims errors totals suspects apart long later attempts
-- ARGV id member seq want bytes turn(1: it wants suspects, and nothing else) away(1: what is not finished takes long,
--      so it moves into `long`) what n_failed n_followups n_later
--      failed... followup... (message ms attempts failures)... n_these these... finished...
--      `what` says which messages are finished. all: all that were handed out. near: of those in the list all but
--      these, and of those in `long` the ones after them. some: only the ones after `these`, of which there are none.
--      A message that comes again is one of the finished. It does so in `ms`, and was tried so often by then.
-- -> {state, message...}, or nil when it is refused. States: 0; 1: suspects wait apart; 2: suspects wait until the
--    hands of this task are empty; 3: this task has suspects in its hands. In 2 and 3 it gets nothing until it has
--    finished all. Where some of the messages were tried before, the state is {state, n, "attempts failures", ...}
--    instead, with the place n of each of them.
local messages, inflight, members, claims, errors, totals, suspects, apart, long, later, attempts = unpack(KEYS)
local id, seq, want, bytes = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local turn, away, what = ARGV[6] == '1', ARGV[7] == '1', ARGV[8]
local failed, followups, postponed = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local first_followup = 12 + failed
local first_later = first_followup + followups
local these = first_later + 4 * postponed
local asked = bytes

local call, last = enter(members, claims, id, ARGV[2], seq)
if call == 'stranger' or call == 'gap' then return false end
if call == 'late' then return {0} end
local held, far = last.held, last.long
-- Nearly always there is none of these, so that one look is enough.
local some = redis.call('EXISTS', suspects, apart, later, attempts) > 0
local tried = some and redis.call('HLEN', attempts) > 0
local function with_attempts(answer)
  local state = {answer[1]}
  for i = 2, tried and #answer or 0 do
    local known = redis.call('HGET', attempts, redis.sha1hex(answer[i]))
    if known then state[#state + 1], state[#state + 2] = i - 1, known end
  end
  if #state > 1 then answer[1] = state end
  return answer
end
if call == 'repeat' then
  local again = {last.state}
  for i, m in ipairs(last.count > 0 and redis.call('LRANGE', inflight, held - last.count, held - 1) or {}) do
    if i > 1 and bytes <= 0 and asked < last.bytes then break end
    again[i + 1] = m
    bytes = bytes - #m
  end
  if #again - 1 < last.count then
    held = held - last.count + #again - 1
    redis.call('HDEL', claims, id)
    for i = held + 1, redis.call('LLEN', inflight) do redis.call('LMOVE', inflight, messages, 'RIGHT', 'LEFT') end
    store_call(claims, id, seq, #again - 1, last.state, held, far, asked)
  end
  return with_attempts(again)
end

local suspected = some and redis.call('EXISTS', suspects) == 1
local function stage(message)
  local known = suspected and redis.call('HGET', suspects, redis.sha1hex(message))
  return known and tonumber(string.match(known, '^%d+')) or 0
end
local function clear(message)
  local hash = (suspected or tried) and redis.sha1hex(message)
  if suspected then redis.call('HDEL', suspects, hash) end
  if tried then redis.call('HDEL', attempts, hash) end
end

-- Another program may keep something in these keys that is no sorted set or no list. Then this fails, before anything is
-- changed.
local some_come_again = (some and redis.call('ZCARD', later) or 0) + postponed > 0
if failed > 0 then redis.call('LLEN', errors) end
if followups + postponed > 0 then
  redis.call('LLEN', messages)
  redis.call('HLEN', totals)
end
-- A full Redis (maxmemory) refuses a script whose first write may take memory. So follow-ups are counted before all
-- else: then they are refused before anything is changed. Everything else shall be taken, because finishing messages is
-- what makes room. So without follow-ups the first write frees some memory.
if followups > 0 then
  redis.call('HINCRBY', totals, 'followups', followups)
  append(messages, first_followup, first_later - 1)
end
redis.call('HDEL', claims, id)
if postponed > 0 then
  local ordinal, now = redis.call('HINCRBY', totals, 'postponed', postponed), clock()
  for i = these - 4, first_later, -4 do
    put_off(later, ARGV[i], now + ARGV[i + 1] / 1000, ordinal)
    ordinal = ordinal - 1
  end
end

-- Acknowledge.
local finished = 0
if suspected or tried then
  local stay = {}
  for i = these + 1, these + tonumber(ARGV[these]) do stay[ARGV[i]] = (stay[ARGV[i]] or 0) + 1 end
  for _, m in ipairs(what ~= 'some' and held > 0 and redis.call('LRANGE', inflight, 0, held - 1) or {}) do
    local left = stay[m] or 0
    if left > 0 then stay[m] = left - 1 else clear(m) end
  end
  for _, m in ipairs(what == 'all' and far > 0 and redis.call('HKEYS', long) or {}) do clear(m) end
end
if what == 'all' then
  finished, far = far, 0
  redis.call('DEL', long)
end
local first = these + 1
if what ~= 'some' then
  redis.call('LTRIM', inflight, held, -1)
  finished, held = finished + held, 0
  for i = these + tonumber(ARGV[these]), first, -1 do
    redis.call('LPUSH', inflight, ARGV[i])
    finished, held = finished - 1, held + 1
  end
  first = first + held
end
for i = first, #ARGV do
  if far > 0 and take_out(long, ARGV[i]) then
    finished, far = finished + 1, far - 1
  else
    local removed = redis.call('LREM', inflight, 1, ARGV[i])
    finished, held = finished + removed, held - removed
  end
  clear(ARGV[i])
end
if failed > 0 then
  append(errors, 12, 11 + failed)
  redis.call('HINCRBY', totals, 'errors', failed)
end
local longest = 0
for i = first_later, these - 1, 4 do
  redis.call('HSET', attempts, redis.sha1hex(ARGV[i]), ARGV[i + 2] .. ' ' .. ARGV[i + 3])
  longest = math.max(longest, tonumber(ARGV[i + 1]))
end
if postponed > 0 and redis.call('PTTL', attempts) < KEEP_ATTEMPTS + longest then
  redis.call('PEXPIRE', attempts, string.format('%.0f', KEEP_ATTEMPTS + longest))
end
local processed = finished - postponed
if processed > 0 then redis.call('HINCRBY', totals, 'processed', processed) end
if away then
  put_away(inflight, long, held, seq)
  held, far = 0, far + held
end

-- Claim. What BLMOVE brought goes back to the queue first, because what this task may have is decided below.
for i = held + 1, redis.call('LLEN', inflight) do redis.call('LMOVE', inflight, messages, 'RIGHT', 'LEFT') end
if some_come_again then return_due(later, messages) end
local answer, state, free = {0}, 0, held + far == 0
local function hand_out(message)
  answer[#answer + 1] = message
  bytes = bytes - #message
  held, want = held + 1, want - 1
end
local function hand_out_suspects()
  local together = SUSPECTS_TOGETHER
  while together > 0 and bytes > 0 do
    local head = redis.call('LINDEX', apart, 0)
    local alone = head and stage(head) > 2
    if not head or (alone and together < SUSPECTS_TOGETHER) then break end
    redis.call('LMOVE', apart, inflight, 'LEFT', 'RIGHT')
    hand_out(head)
    together = alone and 0 or together - 1
  end
  state = 3
end
if last.state == 3 and not free then
  state = 3
elseif turn and redis.call('EXISTS', apart) == 1 then
  state = 2
  if free and want > 0 then hand_out_suspects() end
elseif suspected then
  while want > 0 and bytes > 0 do
    local head = redis.call('LINDEX', messages, 0)
    if not head then break end
    if stage(head) < 2 then
      redis.call('LMOVE', messages, inflight, 'LEFT', 'RIGHT')
      hand_out(head)
    else
      redis.call('LMOVE', messages, apart, 'LEFT', 'RIGHT')
    end
  end
else
  while want > 0 and bytes > 0 do
    local chunk = redis.call('LPOP', messages, math.min(want, 16))
    if not chunk then break end
    redis.call('RPUSH', inflight, unpack(chunk))
    -- Nearly all messages come this way. Calling hand_out for each would take more time than all the rest.
    local left, n = bytes, #answer
    for i = 1, #chunk do
      local message = chunk[i]
      answer[n + i] = message
      left = left - #message
    end
    bytes, held, want = left, held + #chunk, want - #chunk
  end
end
if state == 0 and some and redis.call('EXISTS', apart) == 1 then
  state = 1
  if free and want > 0 and #answer == 1 then hand_out_suspects() end
end
answer[1] = state
store_call(claims, id, seq, #answer - 1, state, held, far, asked)
tried = tried or postponed > 0 -- what is due at once may have been handed out in this step already
return with_attempts(answer)
