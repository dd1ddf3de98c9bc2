-- Begins a line that is brought here from another store, in the place of one that was not brought to its end. Its format
-- is 0 until it is whole: no node opens it before that.
-- KEYS: what all keys of the room begin with. ARGV: identity, who brings it.
if redis.replicate_commands then redis.replicate_commands() end
local base = KEYS[1]
local format = redis.call('HGET', base .. 'line', 'format')
if format and format ~= '0' then return 'known' end
local marks = redis.call('HGETALL', base .. 'marks')
for i = 1, #marks, 2 do
  for page = 0, math.floor(tonumber(marks[i + 1]) / 4096) do
    redis.call('DEL', base .. 'page:' .. marks[i] .. ':' .. page)
  end
end
redis.call('DEL', base .. 'marks', base .. 'forgotten', base .. 'seats', base .. 'ended', base .. 'openings')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
redis.call('HSET', base .. 'line', 'format', 0, 'identity', ARGV[1], 'frozen', 0, 'seq', 0, 'last', 0, 'run', run,
           'bringer', ARGV[2])
redis.call('HDEL', base .. 'line', 'by_hand:frozen', 'by_hand:held')
return 'begun'
