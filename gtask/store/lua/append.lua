-- Appends the arguments from ARGV[first] to ARGV[last] to a list, and answers with its length; nil where there are none.
-- Lua can pass on only some thousand values in one call.
local function append(list, first, last)
  local length
  for i = first, last, 1000 do
    length = redis.call('RPUSH', list, unpack(ARGV, i, math.min(i + 999, last)))
  end
  return length
end

