-- Jumps ahead with every counter of a room, once for each run of the server: it may have lost its last writes.
-- KEYS: what all keys of the room begin with. ARGV: the run's identity, how far to jump.
local base = KEYS[1]
if redis.call('EXISTS', base .. 'line') == 0 then return 0 end
local known = redis.call('HGET', base .. 'line', 'run')
if known == ARGV[1] then return 0 end
redis.call('HSET', base .. 'line', 'run', ARGV[1])
if not known then return 0 end
local marks = redis.call('HGETALL', base .. 'marks')
for i = 1, #marks, 2 do redis.call('HINCRBY', base .. 'marks', marks[i], ARGV[2]) end
return 1
