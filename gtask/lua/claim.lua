-- Promise: acknowledges exactly the finished messages (their failures go to `errors`, totals are kept) and
-- moves the next ones to this task's in-flight list, in one step; the same call again gives the same answer
-- and changes nothing; an older one gives nothing. A task that was reaped is refused, and so is one that has made calls
-- of which this Redis does not know (it went back in time). A suspect (a message that may have killed its holder) is
-- given only alone.
-- KEYS messages inflight members claims errors totals suspects
-- ARGV id member seq want bytes whole(1: all that was handed out is finished) n_failed failed... finished...(else)
-- -> {blocked 0|1, message...}, or nil: refused. Blocked: messages wait, but only for a task with empty hands.
local messages, inflight, members, claims, errors, totals, suspects = unpack(KEYS)
local id, seq, want, bytes = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local whole, failed = ARGV[6] == '1', tonumber(ARGV[7])

if redis.call('HGET', members, id) ~= ARGV[2] then return false end
-- `claims` holds "seq count blocked held" of this task's last call. Elements behind the first `held` were
-- put on the list by BLMOVE and have not been handed out yet.
local held = 0
local last = redis.call('HGET', claims, id)
if last then
  local s, count, blocked, h = string.match(last, '^(%d+) (%d+) (%d) (%d+)$')
  s, count, held = tonumber(s), tonumber(count), tonumber(h)
  if s > seq then return {0} end
  if s == seq then
    local again = {tonumber(blocked)}
    for i, m in ipairs(count > 0 and redis.call('LRANGE', inflight, held - count, held - 1) or {}) do
      again[i + 1] = m
    end
    return again
  end
  if s < seq - 1 then return false end
end

local suspected = redis.call('EXISTS', suspects) == 1
local function is_suspect(message)
  return redis.call('HEXISTS', suspects, redis.sha1hex(message)) == 1
end
local function clear(message)
  if suspected then redis.call('HDEL', suspects, redis.sha1hex(message)) end
end

-- Acknowledge. Where another program keeps something else in `errors`, this ends here, before anything is forgotten.
if failed > 0 then redis.call('LLEN', errors) end
-- A full Redis (maxmemory) refuses a script whose first write may take memory; this one makes room.
redis.call('HDEL', claims, id)
local finished = 0
if whole and held > 0 then
  if suspected then
    for _, m in ipairs(redis.call('LRANGE', inflight, 0, held - 1)) do clear(m) end
  end
  redis.call('LTRIM', inflight, held, -1)
  finished = held
end
for i = 8 + failed, #ARGV do
  finished = finished + redis.call('LREM', inflight, 1, ARGV[i])
  clear(ARGV[i])
end
if failed > 0 then
  for i = 8, 7 + failed, 1000 do
    redis.call('RPUSH', errors, unpack(ARGV, i, math.min(i + 999, 7 + failed)))
  end
  redis.call('HINCRBY', totals, 'errors', failed)
end
if finished > 0 then redis.call('HINCRBY', totals, 'processed', finished) end
held = held - finished

-- Claim.
local answer, blocked = {0}, 0
local function hand_out(message)
  answer[#answer + 1] = message
  bytes = bytes - #message
end
local waiting = redis.call('LRANGE', inflight, held, -1)
local alone = held > 0 and suspected and is_suspect(redis.call('LINDEX', inflight, 0))
if suspected then
  -- What BLMOVE brought goes back first: whether this task may have it is decided below.
  for i = 1, #waiting do redis.call('LMOVE', inflight, messages, 'RIGHT', 'LEFT') end
  while want > 0 and bytes > 0 do
    local head = redis.call('LINDEX', messages, 0)
    if not head then break end
    local suspect = is_suspect(head)
    if alone or (suspect and held > 0) then blocked = 1; break end
    redis.call('LMOVE', messages, inflight, 'LEFT', 'RIGHT')
    hand_out(head)
    held, want, alone = held + 1, want - 1, suspect
  end
else
  for i = 1, #waiting do hand_out(waiting[i]) end
  want, held = want - #waiting, held + #waiting
  while want > 0 and bytes > 0 do
    local chunk = redis.call('LPOP', messages, math.min(want, 16))
    if not chunk then break end
    redis.call('RPUSH', inflight, unpack(chunk))
    for i = 1, #chunk do hand_out(chunk[i]) end
    want, held = want - #chunk, held + #chunk
  end
end
answer[1] = blocked
redis.call('HSET', claims, id, string.format('%d %d %d %d', seq, #answer - 1, blocked, held))
return answer
