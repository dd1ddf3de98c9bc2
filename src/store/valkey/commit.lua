-- What a node has to say since the last time: draws numbers, writes what must last, appends to the log, keeps or takes
-- the lease of the leader.
-- KEYS: what all keys of the room begin with.
-- ARGV: node, identity of the line, lease in milliseconds, whether the node is willing to lead ("1"), the fence under
-- which its decisions were made (0: none are here), what goes into the log, how many draws; then three for each draw:
-- class, how many, kind; then what is to be written.
if redis.replicate_commands then redis.replicate_commands() end
local base = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local identity = redis.call('HGET', base .. 'line', 'identity')
if not identity then return {'gone', now} end
if identity ~= ARGV[2] then return {'other', now} end

-- The lease. Whoever takes it from another gets a higher fence.
local node, willing = ARGV[1], ARGV[4] == '1'
local lease = redis.call('HMGET', base .. 'lease', 'node', 'fence', 'until')
local fence, leads = tonumber(lease[2]) or 0, 0
if lease[1] == node then
  if willing then
    leads = fence
    redis.call('HSET', base .. 'lease', 'until', now + tonumber(ARGV[3]))
  else
    redis.call('HSET', base .. 'lease', 'node', '', 'until', 0)
  end
elseif willing and (tonumber(lease[3]) or 0) <= now then
  leads = fence + 1
  redis.call('HSET', base .. 'lease', 'node', node, 'fence', leads, 'until', now + tonumber(ARGV[3]))
end
local decided = tonumber(ARGV[5])
if decided > 0 and decided ~= leads then return {'fenced', now, leads} end

-- Numbers.
local function set(class, number, nibble)
  local page = base .. 'page:' .. class .. ':' .. math.floor(number / 4096)
  redis.call('BITFIELD', page, 'SET', 'u4', '#' .. (number % 4096), nibble)
end
local next, first, joins = 8, {}, {}
local states = {w = 1, p = 9, s = 4}
for draw = 1, tonumber(ARGV[7]) do
  local class, count, kind = ARGV[next], tonumber(ARGV[next + 1]), ARGV[next + 2]
  next = next + 3
  local last = redis.call('HINCRBY', base .. 'marks', class, count)
  for number = last - count + 1, last do set(class, number, states[kind]) end
  first[draw] = last - count + 1
  joins[draw] = class .. ':' .. first[draw] .. ':' .. count .. ':' .. kind
end

-- What must last. A number of which something is known will not be drawn again.
local highest = {}
while ARGV[next] do
  local what = ARGV[next]
  if what == 't' then
    local class, number = ARGV[next + 1], tonumber(ARGV[next + 2])
    set(class, number, ARGV[next + 3])
    highest[class] = math.max(highest[class] or 0, number)
    next = next + 4
  elseif what == 's' then
    redis.call('HSET', base .. 'seats', ARGV[next + 1], ARGV[next + 2])
    redis.call('ZREM', base .. 'ended', ARGV[next + 1])
    next = next + 3
  elseif what == 'g' then
    redis.call('HDEL', base .. 'seats', ARGV[next + 1])
    if ARGV[next + 2] == '' then
      redis.call('ZREM', base .. 'ended', ARGV[next + 1])
    else
      redis.call('ZADD', base .. 'ended', ARGV[next + 2], ARGV[next + 1])
    end
    next = next + 3
  elseif what == 'f' then
    local class, through = ARGV[next + 1], tonumber(ARGV[next + 2])
    highest[class] = math.max(highest[class] or 0, through)
    local before = tonumber(redis.call('HGET', base .. 'forgotten', class)) or 0
    if through > before then
      redis.call('HSET', base .. 'forgotten', class, through)
      for page = math.floor(before / 4096), math.floor((through + 1) / 4096) - 1 do
        redis.call('DEL', base .. 'page:' .. class .. ':' .. page)
      end
    end
    next = next + 3
  elseif what == 'z' then
    local frozen = tonumber(redis.call('HGET', base .. 'line', 'frozen')) or 0
    if tonumber(ARGV[next + 1]) > frozen then redis.call('HSET', base .. 'line', 'frozen', ARGV[next + 1]) end
    next = next + 2
  else
    return redis.error_reply('ERR an order of an unknown kind')
  end
end
for class, number in pairs(highest) do
  if number > (tonumber(redis.call('HGET', base .. 'marks', class)) or 0) then
    redis.call('HSET', base .. 'marks', class, string.format('%.0f', number))
  end
end
redis.call('HSET', base .. 'line', 'last', string.format('%.0f', now))

-- The log.
if #joins > 0 or ARGV[6] ~= '' then
  local seq = redis.call('HINCRBY', base .. 'line', 'seq', 1)
  redis.call('XADD', base .. 'log', 'MAXLEN', '~', 20000, '*',
             'n', node, 's', seq, 'f', decided, 'j', table.concat(joins, ' '), 'b', ARGV[6])
end
return {'done', now, leads, first}
