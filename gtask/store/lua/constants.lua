-- Numbers on which several scripts have to agree. Where the unit is heartbeats, those of the task in question count.
local DEAD_AFTER = 5 -- heartbeats: a task of which Redis has not heard for so long is dead
local STILL_AFTER = 3 -- heartbeats: when no task was heard of for so long, it was Redis that stood still (beat.lua)
local OWNER_EARLIER = 5 -- milliseconds: the owner's life ends so long before the flag's (fence.lua)
local FLAG_EARLIER = 1 -- milliseconds: the flag's life ends so long before the time that its SET gave it
local function longest_pause(failures) -- milliseconds: nobody is elected for longer after so many failed terms in a row
  return 1000 * math.min(60, 2 ^ (failures - 1))
end
local LARGEST_POSITION = 4096 -- bytes: a longer `last` travels only when position.lua is asked for it
local SUSPECTS_TOGETHER = 10 -- as many suspects are tried at once while there are many (reap.lua)
local KEEP_ATTEMPTS = 86400000 -- milliseconds: so long after the message has come again its attempts are forgotten
