-- Promise: the next number, as INCR gives it, also in a full Redis. A task that is to empty it needs one first.
-- It cannot be repeated without being noticed: a second call gives another number.
-- KEYS task_id members
-- -> the number
-- A full Redis (maxmemory) refuses a script whose first write may take memory, so this one begins as if it freed some.
local task_id, members = unpack(KEYS)
redis.call('HDEL', members, '')
return redis.call('INCR', task_id)
