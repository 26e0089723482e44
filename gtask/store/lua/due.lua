-- Messages that come again wait in the sorted set `later` until they are due, by the clock of Redis. Only this file knows
-- what it holds. A member is an ordinal and the message, because two equal members would be one. So equal messages stay
-- apart, and those that are due at the same moment come in the order in which they were put off.
local DUE_AT_ONCE, DUE_BYTES = 100, 1048576 -- so many messages, but no more after about so many bytes, return in one step
local SMALL_STEP = 1 -- seconds: by so much the clock may step back, and what comes later for it is left alone

local function clock()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
-- An ordinal is taken already only where somebody has deleted the total from which it comes.
local function put_off(later, message, due, ordinal)
  due = string.format('%.6f', due)
  while redis.call('ZADD', later, 'NX', due, string.format('%016.0f ', ordinal) .. message) == 0 do
    ordinal = ordinal + 1
  end
end
-- The clock has stepped back, so all would come so many seconds too late.
local function come_earlier(later, seconds)
  local done = 0
  repeat
    local some = redis.call('ZRANGE', later, done, done + 99, 'WITHSCORES')
    for i = 1, #some, 2 do
      local due = some[i + 1] - seconds
      if due == due then redis.call('ZADD', later, string.format('%.6f', due), some[i]) end -- not so for inf - inf
    end
    done = done + #some / 2
  until #some == 0
end
-- What is due returns to the head of `messages`, in the order of its due times.
local function return_due(later, messages)
  local now, due, bytes, step = string.format('%.6f', clock()), {}, DUE_BYTES, 1 -- in the form in which they stand there
  while #due < DUE_AT_ONCE and bytes > 0 do
    local limit = math.min(step, DUE_AT_ONCE - #due)
    local some = redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', #due, limit)
    if #some == 0 then break end
    for i = 1, #some do
      due[#due + 1] = some[i]
      bytes = bytes - #some[i]
    end
    step = 2 * step
  end
  local ordinal = '^' .. string.rep('%d', 16) .. ' (.*)$'
  for i = #due, 1, -1 do
    -- What has no ordinal was put there by another program. It is a message like any other.
    redis.call('LPUSH', messages, string.match(due[i], ordinal) or due[i])
    redis.call('ZREM', later, due[i])
  end
end

