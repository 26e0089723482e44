-- needs: append
-- Promise: puts messages at the tail of `messages`, all of them or none, and counts them in `pushed`. Nobody has
-- generated them, so neither the position nor the count of what was generated changes.
-- It cannot be repeated: a second call would put them there again.
-- KEYS messages totals ; ARGV message... -> length of `messages`
local messages, totals = unpack(KEYS)
-- When another program keeps something else in `messages`, the script ends here, before anything is changed.
local length = redis.call('LLEN', messages)
redis.call('HINCRBY', totals, 'pushed', #ARGV)
return append(messages, 1, #ARGV) or length
