-- Messages that come again wait in the sorted set `later` until they are due, by the clock of Redis. Only this file knows
-- what it holds. A member is an ordinal and the message, because two equal members would be one. So equal messages stay
-- apart, and those that are due at the same moment come in the order in which they were put off.
local DUE_AT_ONCE, DUE_BYTES = 100, 1048576 -- so many messages, but no more after about so many bytes, return in one step
local ORDINAL = '^' .. string.rep('%d', 16) .. ' (.*)$'

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
-- What is due returns to the head of `messages`, in the order of its due times.
local function return_due(later, messages)
  local now, due, bytes, step = clock(), {}, DUE_BYTES, 1
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
  for i = #due, 1, -1 do
    -- What has no ordinal was put there by another program. It is a message like any other.
    redis.call('LPUSH', messages, string.match(due[i], ORDINAL) or due[i])
    redis.call('ZREM', later, due[i])
  end
end

