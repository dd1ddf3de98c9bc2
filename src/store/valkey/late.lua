-- Numbers for those who joined while this server was away. Each node reports how many it let join in each slot of time
-- ("rows"); what is reported waits, and gets numbers all at once, by slot and then by node. Done twice, it counts once.
-- KEYS: what all keys of the room begin with. ARGV: node, identity of the line, the run of the server that the node knows,
-- for how long a ticket may be valid, in milliseconds, and what is done: "report" (then three for each row: its name
-- "slot:node:class:kind", how many, the first number or 0), "settle", or "exchange" (then row, place in it from 0, identity
-- of the ticket).
if redis.replicate_commands then redis.replicate_commands() end
local base, deed = KEYS[1], ARGV[5]
local line = redis.call('HMGET', base .. 'line', 'identity', 'run')
if not line[1] then return {'gone'} end
if line[1] ~= ARGV[2] then return {'other'} end
-- A server that may have lost its last writes is told the line again first.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
if run ~= ARGV[3] or line[2] ~= run then return {'anew'} end
local function text(number) return string.format('%.0f', number) end

local function keep(key)
  if redis.call('PTTL', key) < tonumber(ARGV[4]) then redis.call('PEXPIRE', key, ARGV[4]) end
end
local function lift(class, number)
  if number > (tonumber(redis.call('HGET', base .. 'marks', class)) or 0) then
    redis.call('HSET', base .. 'marks', class, text(number))
  end
end
local states = {w = 1, p = 9}
local function note(class, first, last, kind)
  for number = first, last do
    local page = base .. 'page:' .. class .. ':' .. math.floor(number / 4096)
    redis.call('BITFIELD', page, 'SET', 'u4', '#' .. (number % 4096), states[kind])
  end
end
local function tell(joins)
  local seq = redis.call('HINCRBY', base .. 'line', 'seq', 1)
  redis.call('XADD', base .. 'log', 'MAXLEN', '~', 20000, '*',
             'n', ARGV[1], 's', seq, 'f', '0', 'j', table.concat(joins, ' '), 'b', '')
end

local function merge()
  local waiting, rows = redis.call('HGETALL', base .. 'late:waiting'), {}
  if #waiting == 0 then return end
  for i = 1, #waiting, 2 do
    local slot, node, class, kind = string.match(waiting[i], '^(%d+):(%d+):(%d+):(%l)$')
    rows[#rows + 1] = {name = waiting[i], slot = tonumber(slot), node = node, class = class, kind = kind,
                       count = tonumber(waiting[i + 1])}
  end
  table.sort(rows, function(a, b)
    if a.slot ~= b.slot then return a.slot < b.slot end
    return a.name < b.name
  end)
  local joins, run_of = {}, {}
  local function close(class)
    local r = run_of[class]
    note(class, r.first, r.last, r.kind)
    joins[#joins + 1] = class .. ':' .. text(r.first) .. ':' .. text(r.last - r.first + 1) .. ':' .. r.kind
  end
  for _, row in ipairs(rows) do
    local last = redis.call('HINCRBY', base .. 'marks', row.class, row.count)
    local first = last - row.count + 1
    redis.call('HSET', base .. 'late:rows', row.name, text(first) .. ':' .. row.count)
    local r = run_of[row.class]
    if r and r.kind ~= row.kind then close(row.class); r = nil end
    if r then r.last = last else run_of[row.class] = {first = first, last = last, kind = row.kind} end
  end
  for class in pairs(run_of) do close(class) end
  redis.call('DEL', base .. 'late:waiting')
  keep(base .. 'late:rows')
  tell(joins)
end

if deed == 'settle' then
  merge()
  return {'done'}
elseif deed == 'report' then
  local firsts = {'done'}
  for i = 6, #ARGV, 3 do
    local name, count, first = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local known = redis.call('HGET', base .. 'late:rows', name)
    if not known and first > 0 then
      redis.call('HSET', base .. 'late:rows', name, text(first) .. ':' .. count)
      lift(string.match(name, '^%d+:%d+:(%d+):'), first + count - 1)
      known = text(first)
    elseif not known then
      redis.call('HSETNX', base .. 'late:waiting', name, count)
    end
    firsts[#firsts + 1] = known and string.match(known, '^%d+') or '0'
  end
  if redis.call('EXISTS', base .. 'late:rows') == 1 then keep(base .. 'late:rows') end
  if redis.call('EXISTS', base .. 'late:waiting') == 1 then keep(base .. 'late:waiting') end
  return firsts
elseif deed == 'exchange' then
  merge()
  local name, place, id = ARGV[6], tonumber(ARGV[7]), ARGV[8]
  local number = redis.call('HGET', base .. 'late:exchanged', id)
  if number then return {'done', number} end
  local first, count = string.match(redis.call('HGET', base .. 'late:rows', name) or '', '^(%d+):(%d+)$')
  if first and place < tonumber(count) then return {'done', text(tonumber(first) + place)} end
  -- Nobody reported it: its node is gone, or still cut off.
  local class, kind = string.match(name, '^%d+:%d+:(%d+):(%l)$')
  number = redis.call('HINCRBY', base .. 'marks', class, 1)
  note(class, number, number, kind)
  tell({class .. ':' .. text(number) .. ':1:' .. kind})
  redis.call('HSET', base .. 'late:exchanged', id, text(number))
  keep(base .. 'late:exchanged')
  return {'done', text(number)}
end
return redis.error_reply('ERR a deed of an unknown kind')
