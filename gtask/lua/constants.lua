-- Numbers on which several scripts have to agree. T is the heartbeat of the task in question.
local DEAD_AFTER = 5 -- T: a task that was not heard of for so long is dead
local STILL_AFTER = 3 -- T: nobody was heard of for so long, so Redis or the machine stood still; nobody is dead for as long
local OWNER_EARLIER = 5 -- milliseconds by which the owner's life ends before the flag's
local FLAG_EARLIER = 1 -- milliseconds by which the flag's life ends before the time that its SET gave it
local LONGEST_PAUSE = 60 -- seconds for which the fleet waits after terms that failed
local SUSPECTS_TOGETHER = 10 -- suspects that are tried together
local LATEST_BLMOVE = 3600 -- seconds after a task's death in which a BLMOVE of it may still be served
