-- Promise: says where the next generator goes on, unless somebody generates now. A generator that was stopped and comes
-- back later cannot undo it, because it owns the flag no more.
-- It cannot be repeated without being noticed: the second answer counts nothing that was deleted by the first.
-- KEYS flag generator messages apart errors totals later attempts suspects
-- ARGV 'to' position [name: refuse it where the function of this name stands at a position] | 'forget' | 'purge'
-- -> {the flag's life in ms}: refused; {}: refused because of the name; or {position before, waiting messages deleted,
--    failed ones, and those that were to come again}
local flag, generator, messages, apart, errors, totals, later, attempts, suspects = unpack(KEYS)
if redis.call('EXISTS', flag) == 1 then return {redis.call('PTTL', flag)} end
local before = redis.call('HGET', generator, 'last')
if ARGV[3] and before and redis.call('HGET', generator, 'generate') == ARGV[3] then return {} end
-- A full Redis (maxmemory) refuses a script whose first write may take memory, so this script begins by freeing some.
redis.call('HDEL', generator, 'last', 'pushed_at', 'ended')
if ARGV[1] == 'to' then redis.call('HSET', generator, 'last', ARGV[2]) end
local waiting, failed, postponed = 0, 0, 0
if ARGV[1] == 'purge' then
  waiting, failed = redis.call('LLEN', messages) + redis.call('LLEN', apart), redis.call('LLEN', errors)
  postponed = redis.call('ZCARD', later)
  redis.call('UNLINK', messages, apart, errors, later, attempts, suspects)
  redis.call('HDEL', generator, 'generate') -- nothing is left that another function could misunderstand
  local purged = waiting + postponed
  if purged > 0 then redis.call('HINCRBY', totals, 'purged', purged) end
end
return {before, waiting, failed, postponed}
