-- Replaces what is kept under a key if it is still what the node saw; says what it is otherwise.
-- KEYS: the key. ARGV: what the node saw ("": nothing), what it is to be, for how many milliseconds it is kept.
local kept = redis.call('GET', KEYS[1]) or ''
if kept ~= ARGV[1] then return {0, kept} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {1, ''}
