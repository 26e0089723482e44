-- Promise: puts messages at the tail of `messages`, all of them or none, and counts them in `pushed`. Nobody has
-- generated them, so neither the position nor the count of what was generated changes.
-- It cannot be repeated: a second call would put them there again.
-- KEYS messages totals ; ARGV message... -> length of `messages`
local messages, totals = unpack(KEYS)
-- When another program keeps something else in `messages`, the script ends here, before anything is changed.
local length = redis.call('LLEN', messages)
redis.call('HINCRBY', totals, 'pushed', #ARGV)
for i = 1, #ARGV, 1000 do
  length = redis.call('RPUSH', messages, unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return length
