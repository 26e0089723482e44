-- needs: constants fence
-- Promise: where the generator that owns the flag in its term goes on. It is asked only when that is too large for the
-- heartbeat that elects to bring it along, because the flag must be renewed while it travels.
-- May be repeated: it only reads.
-- KEYS flag owner generator members ; ARGV id member term -> {last} ({} at the very first start), or -1: deposed
local flag, owner, generator, members = unpack(KEYS)
if redis.call('HGET', members, ARGV[1]) ~= ARGV[2] then return -1 end
if fence(flag, owner, generator, ARGV[1], ARGV[3]) ~= 'held' then return -1 end
return {redis.call('HGET', generator, 'last') or nil}
