-- Promise: takes or renews the right to take entries out of `errors`, or gives it up; one reader has it at a time. May be
-- repeated.
-- KEYS reader ; ARGV token seconds(0: gives it up) -> 1, or 0: another one has it
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
-- A full Redis (maxmemory) refuses a script whose first write may take memory; this one frees some.
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '0' then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return 1
