-- Lifts the counters of a room, and begins its line again if the store has lost it.
-- KEYS: what all keys of the room begin with. ARGV: identity, format, sequence number, how far to jump beyond what was
-- lost, whether a counter below its number has lost something ("1"), or only the line as a whole; then two for each lane:
-- class, number.
if redis.replicate_commands then redis.replicate_commands() end
local base, lost = KEYS[1], 0
local time = redis.call('TIME')
local identity = redis.call('HGET', base .. 'line', 'identity')
if not identity then
  lost = tonumber(ARGV[4])
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
  redis.call('HSET', base .. 'line', 'format', ARGV[2], 'identity', ARGV[1], 'frozen', 0, 'seq', ARGV[3], 'run', run)
  -- Whoever led may believe so for a while: nobody else leads meanwhile.
  redis.call('HSET', base .. 'lease', 'node', '', 'until', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + 1000))
elseif identity ~= ARGV[1] then
  return 'other'
end
for i = 6, #ARGV, 2 do
  local mark = tonumber(redis.call('HGET', base .. 'marks', ARGV[i])) or 0
  local wanted = tonumber(ARGV[i + 1]) + lost
  if ARGV[5] == '1' and lost == 0 and wanted > mark then wanted = wanted + tonumber(ARGV[4]) end
  if wanted > mark then redis.call('HSET', base .. 'marks', ARGV[i], wanted) end
end
return 'done'
