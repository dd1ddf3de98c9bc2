-- The line that was brought here is whole: nodes may open it now. Not when somebody else has begun to bring one meanwhile.
-- KEYS: what all keys of the room begin with. ARGV: identity, who brings it, its format, when it was last written.
if redis.replicate_commands then redis.replicate_commands() end
local key = KEYS[1] .. 'line'
local line = redis.call('HMGET', key, 'identity', 'bringer', 'format')
if line[1] ~= ARGV[1] or line[2] ~= ARGV[2] or line[3] ~= '0' then return 'other' end
redis.call('HSET', key, 'format', ARGV[3], 'last', ARGV[4])
redis.call('HDEL', key, 'bringer')
return 'done'
