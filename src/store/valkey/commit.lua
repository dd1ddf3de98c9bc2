-- What a node has to say since the last time: draws numbers, writes what must last, appends to the log, keeps or takes
-- the lease of the leader. Said again because its answer was lost, it is only answered again.
-- KEYS: what all keys of the room begin with.
-- ARGV: node, identity of the line, lease in milliseconds, whether the node is willing to lead ("1"), the fence under
-- which its decisions were made (0: none are here), what goes into the log, how many draws, the run of the server that
-- the node knows, how far to jump after another one, the number of what is said (0: it may be done twice), what the node may
-- use of the rate when it goes on alone ("": nothing) and what it knows that a server may have lost; then three for each draw:
-- class, how many, kind; then what is to be written.
if redis.replicate_commands then redis.replicate_commands() end
local base = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local line = redis.call('HMGET', base .. 'line', 'identity', 'run')
if not line[1] then return {'gone', now} end
if line[1] ~= ARGV[2] then return {'other', now} end

-- Another run than the node knows, or than the line was last led by: the server was started anew, or another has taken its
-- place, and perhaps given it back since. It may have lost its last writes, so that every counter jumps ahead once.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local answered, has, wanted, longest = string.match(ARGV[11], '^(%d+):(%d+):(%d+):(%d+)')
if run ~= ARGV[8] or line[2] ~= run then
  if line[2] ~= run then
    -- What each node may use alone may have been given again since the last write.
    local known = redis.call('HGETALL', base .. 'alone')
    for i = 1, #known, 2 do
      local last_answered, last, share = string.match(known[i + 1], '^(%d+):(%d+):(%d+)$')
      if last and last_answered ~= '0' then
        local claim = string.format('%s:%.0f:%s', last_answered, now + (longest or last - last_answered), share)
        redis.call('HSET', base .. 'alone', known[i], claim)
      end
    end
    redis.call('HSET', base .. 'line', 'run', run)
    local marks = redis.call('HGETALL', base .. 'marks')
    for i = 1, #marks, 2 do redis.call('HINCRBY', base .. 'marks', marks[i], ARGV[9]) end
    -- Whoever leads by a lease that the server has forgotten may believe so for a while: nobody else leads meanwhile.
    redis.call('HSET', base .. 'lease', 'node', '', 'until', string.format('%.0f', now + 1000))
  end
  local cursor = '0-0'
  local last = redis.call('XREVRANGE', base .. 'log', '+', '-', 'COUNT', 1)
  if last[1] then cursor = last[1][1] end
  return {'anew', now, run, redis.call('HGET', base .. 'line', 'seq') or '0', cursor}
end

-- The lease. Whoever takes it from another gets a higher fence.
local node, willing = ARGV[1], ARGV[4] == '1'
local lease = redis.call('HMGET', base .. 'lease', 'node', 'fence', 'until')
local fence, leads = tonumber(lease[2]) or 0, 0
-- What was decided before the lease is given back counts.
local held = lease[1] == node and fence or 0
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

-- What each node may use alone: its claim, as "answered:until:thousandths". All together are at most the whole, and what a
-- node has counts until it knows of less.
local given, claims = 0, {}
if ARGV[10] ~= '0' then
  -- A server that has lost its last writes hears what others may use from whoever knows it.
  for other, when, share in string.gmatch(ARGV[11], ',(%d+):(%d+):(%d+)') do
    local here = string.match(redis.call('HGET', base .. 'alone', other) or '', '^%d+')
    if longest and other ~= node and (not here or tonumber(here) < tonumber(when)) then
      redis.call('HSET', base .. 'alone', other, string.format('%s:%.0f:%s', when, now + longest, share))
    end
  end
  local known, taken = redis.call('HGETALL', base .. 'alone'), 0
  for i = 1, #known, 2 do
    if known[i] ~= node then
      local when, last, share = string.match(known[i + 1], '^(%d+):(%d+):(%d+)$')
      if not last or tonumber(last) < now then
        redis.call('HDEL', base .. 'alone', known[i])
      else
        taken = taken + tonumber(share)
        for _, figure in ipairs({known[i], when, last, share}) do claims[#claims + 1] = figure end
      end
    end
  end
  if answered and willing then
    given = math.max(0, math.min(tonumber(wanted), 1000 - taken))
    -- Who hears this answer has asked for it by now, and goes on for no longer than that after it.
    local claim = string.format('%.0f:%.0f:%d', answered, now + longest, math.max(tonumber(has), given))
    redis.call('HSET', base .. 'alone', node, claim)
  else
    redis.call('HDEL', base .. 'alone', node)
  end
end

local said = ARGV[10] ~= '0' and redis.call('GET', base .. 'said:' .. node)
if said and string.match(said, '^%d+') == ARGV[10] then
  local first = {}
  for number in string.gmatch(said, ',(%d+)') do first[#first + 1] = tonumber(number) end
  return {'done', now, leads, first, given, claims}
end
local decided = tonumber(ARGV[5])
if decided > 0 and decided ~= held then return {'fenced', now, leads} end

-- Numbers.
local function set(class, number, nibble)
  local page = base .. 'page:' .. class .. ':' .. math.floor(number / 4096)
  redis.call('BITFIELD', page, 'SET', 'u4', '#' .. (number % 4096), nibble)
end
-- Entered: 3, with or without the bit of those whose page runs no script.
local function has_entered(class, number)
  local page = base .. 'page:' .. class .. ':' .. math.floor(number / 4096)
  return redis.call('BITFIELD', page, 'GET', 'u4', '#' .. (number % 4096))[1] % 8 == 3
end
-- How far the node knows the counters to have been: what a server has lost beyond that is less than a jump.
for class, number in string.gmatch(ARGV[11], ';(%d+):(%d+)') do
  if tonumber(number) > (tonumber(redis.call('HGET', base .. 'marks', class)) or 0) then
    redis.call('HSET', base .. 'marks', class, string.format('%.0f', number + ARGV[9]))
  end
end
local next, first, joins = 12, {}, {}
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
    local class, number, nibble = ARGV[next + 1], tonumber(ARGV[next + 2]), tonumber(ARGV[next + 3])
    -- Who entered does not wait again: what was decided before is said again after a failover, perhaps later than the entry.
    local goes_on = nibble % 8 == 3 or nibble % 8 == 4
    if goes_on or not has_entered(class, number) then set(class, number, nibble) end
    highest[class] = math.max(highest[class] or 0, number)
    next = next + 4
  elseif what == 'u' then
    local class, number = ARGV[next + 1], tonumber(ARGV[next + 2])
    if has_entered(class, number) then set(class, number, 2) end
    next = next + 3
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
  elseif what == 'o' then
    redis.call('HSET', base .. 'line', ARGV[next + 1], ARGV[next + 2])
    next = next + 3
  elseif what == 'n' then
    redis.call('HSETNX', base .. 'line', ARGV[next + 1], ARGV[next + 2])
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
if ARGV[10] ~= '0' then
  local answer = ARGV[10]
  for draw = 1, #first do answer = answer .. ',' .. string.format('%.0f', first[draw]) end
  redis.call('SET', base .. 'said:' .. node, answer, 'PX', 60000)
end
return {'done', now, leads, first, given, claims}
