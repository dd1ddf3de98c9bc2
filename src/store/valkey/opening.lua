-- Writes down an opening of a line, if what is known of it is what the node knows, and tells all nodes in the log. What is
-- known of one is three parts with a bar between them: what was announced, what the lanes' counters stood at then, and what
-- became of it (nothing; or when, in milliseconds since 1970, and what the counters stood at).
-- KEYS: what all keys of the room begin with. ARGV: node, identity of the line, the run of the server that the node knows,
-- the fence of its lease, the number of the opening, what the node knows of it (nothing: it is new), what is done, and what
-- was announced, or for "set", "restore" and "bring" all three parts.
if redis.replicate_commands then redis.replicate_commands() end
local base = KEYS[1]
local node, number, expected, deed, words = ARGV[1], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local line = redis.call('HMGET', base .. 'line', 'identity', 'run')
if not line[1] then return {'gone', ''} end
if line[1] ~= ARGV[2] then return {'other', ''} end
local known = redis.call('HGET', base .. 'openings', number) or ''

local function is_held(record) return record ~= '' and not string.match(record, '|$') end
local function counters()
  local marks, lanes = redis.call('HGETALL', base .. 'marks'), {}
  for i = 1, #marks, 2 do lanes[#lanes + 1] = marks[i] .. ':' .. marks[i + 1] end
  table.sort(lanes)
  return table.concat(lanes, ' ')
end
local function gathers(record)
  local after = {}
  for class, mark in string.gmatch(string.match(record, '|(.-)|') or '', '(%d+):(%d+)') do after[class] = tonumber(mark) end
  local marks = redis.call('HGETALL', base .. 'marks')
  for i = 1, #marks, 2 do
    if tonumber(marks[i + 1]) > (after[marks[i]] or 0) then return true end
  end
  return false
end

local record
if deed == 'restore' or deed == 'bring' then
  -- What is final stays; a node that tells the line again may not have heard of the last change.
  if is_held(known) or (known ~= '' and not is_held(words)) then return {'done', known} end
  record = words
else
  -- A server that may have lost its last writes is told the line again first.
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
  if run ~= ARGV[3] or line[2] ~= run then return {'anew', ''} end
  if known ~= expected then return {'otherwise', known} end
  if deed == 'announce' then
    if known ~= '' and gathers(known) then return {'otherwise', known} end
    record = words .. '|' .. counters() .. '|'
  elseif deed == 'withdraw' then
    if gathers(known) then return {'otherwise', known} end
    record = words .. string.match(known, '|.-|') .. string.format('%.0f', now)
  elseif deed == 'hold' then
    -- The number of those who gathered is what the counters stand at in this moment. Only the leader may say so, and once.
    local lease = redis.call('HMGET', base .. 'lease', 'node', 'fence', 'until')
    if lease[1] ~= node or lease[2] ~= ARGV[4] or (tonumber(lease[3]) or 0) <= now then return {'fenced', ''} end
    record = known .. string.format('%.0f', now) .. ' ' .. counters()
  elseif deed == 'set' then
    record = words
  else
    return redis.error_reply('ERR a change of an opening of an unknown kind')
  end
end
redis.call('HSET', base .. 'openings', number, record)
if deed ~= 'bring' then
  local seq = redis.call('HINCRBY', base .. 'line', 'seq', 1)
  redis.call('XADD', base .. 'log', 'MAXLEN', '~', 20000, '*',
             'n', node, 's', seq, 'f', '0', 'j', '', 'b', '', 'o', record)
end
return {'done', record}
