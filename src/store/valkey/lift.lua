-- Lifts the counters of a room, and begins its line again if the store has lost it.
-- KEYS: what all keys of the room begin with. ARGV: identity, format, sequence number, how far to jump if the line was
-- lost; then two for each lane: class, number.
local base, lost = KEYS[1], 0
local identity = redis.call('HGET', base .. 'line', 'identity')
if not identity then
  lost = tonumber(ARGV[4])
  redis.call('HSET', base .. 'line', 'format', ARGV[2], 'identity', ARGV[1], 'frozen', 0, 'seq', ARGV[3])
elseif identity ~= ARGV[1] then
  return 'other'
end
for i = 5, #ARGV, 2 do
  local mark = tonumber(redis.call('HGET', base .. 'marks', ARGV[i])) or 0
  local wanted = tonumber(ARGV[i + 1]) + lost
  if wanted > mark then redis.call('HSET', base .. 'marks', ARGV[i], wanted) end
end
return 'done'
