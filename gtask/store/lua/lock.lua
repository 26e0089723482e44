-- Promise: takes, renews or gives up the right to take entries out of `errors`. One reader has it at a time.
-- May be repeated: whoever has the right already renews it.
-- KEYS reader ; ARGV token seconds(0: gives it up) -> 1, or 0: another reader has it, or -1: somebody has it for ever
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return redis.call('PTTL', KEYS[1]) == -1 and -1 or 0 end
-- A full Redis (maxmemory) refuses a script whose first write may take memory, so this script begins by freeing some.
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '0' then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return 1
