-- Opens the line of a room, and begins it if there is none. Begins it anew when told to end it.
-- KEYS: what all keys of the room begin with. ARGV: the identity of a new line, our format, and "look", "open" or "end".
if redis.replicate_commands then redis.replicate_commands() end
local base = KEYS[1]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local line = redis.call('HMGET', base .. 'line', 'format', 'identity', 'frozen', 'seq', 'last')
local origin = 'known'
if not line[2] and ARGV[3] == 'look' then return false end
if line[2] and ARGV[3] == 'end' then
  local marks = redis.call('HGETALL', base .. 'marks')
  for i = 1, #marks, 2 do
    for page = 0, math.floor(tonumber(marks[i + 1]) / 4096) do
      redis.call('DEL', base .. 'page:' .. marks[i] .. ':' .. page)
    end
  end
  redis.call('DEL', base .. 'marks', base .. 'forgotten', base .. 'seats', base .. 'ended', base .. 'openings')
  redis.call('DEL', base .. 'late:waiting', base .. 'late:rows', base .. 'late:exchanged')
  redis.call('HSET', base .. 'line', 'identity', ARGV[1], 'frozen', 0)
  redis.call('HINCRBY', base .. 'line', 'seq', 1000)
  line = redis.call('HMGET', base .. 'line', 'format', 'identity', 'frozen', 'seq', 'last')
  origin = 'new'
end
if not line[2] then
  origin = 'new'
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
  redis.call('HSET', base .. 'line', 'format', ARGV[2], 'identity', ARGV[1], 'frozen', 0, 'seq', 0, 'last', now, 'run', run)
  line = {ARGV[2], ARGV[1], '0', '0', now}
end
local cursor = '0-0'
local last = redis.call('XREVRANGE', base .. 'log', '+', '-', 'COUNT', 1)
if last[1] then cursor = last[1][1] end
return {origin, line[1], line[2], line[3], line[4], line[5] or '', cursor,
        redis.call('HGETALL', base .. 'marks'), redis.call('HGETALL', base .. 'forgotten'),
        redis.call('HGET', base .. 'line', 'by_hand:frozen') or '0', redis.call('HGET', base .. 'line', 'by_hand:held') or '0'}
