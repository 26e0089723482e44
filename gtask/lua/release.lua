-- Promise: gives the flag up if it is still this task's in this term, and tells the others, who need not
-- wait until it has expired. A repeat changes nothing.
-- KEYS flag owner generator members ; ARGV id member term channel -> 1 released, 0 was not ours
local flag, owner, generator, members = unpack(KEYS)
if redis.call('HGET', members, ARGV[1]) ~= ARGV[2] then return 0 end
if fence(flag, owner, generator, ARGV[1], ARGV[3]) ~= 'held' then return 0 end
redis.call('DEL', owner, flag)
redis.pcall('PUBLISH', ARGV[4], 'released') -- only an accelerator: a user who may not is no failure
return 1
