-- Fills in what the server does not know of a page of tickets; what it knows may be newer.
-- KEYS: what all keys of the room begin with. ARGV: identity of the line, class, number of the page, the page.
if redis.replicate_commands then redis.replicate_commands() end
local base = KEYS[1]
if redis.call('HGET', base .. 'line', 'identity') ~= ARGV[1] then return 'other' end
local key, page = base .. 'page:' .. ARGV[2] .. ':' .. ARGV[3], ARGV[4]
local known = redis.call('GET', key)
if known then
  local merged = {}
  for i = 1, math.max(#page, #known) do
    local ours, theirs = string.byte(page, i) or 0, string.byte(known, i) or 0
    local low, high = theirs % 16, theirs - theirs % 16
    if low == 0 then low = ours % 16 end
    if high == 0 then high = ours - ours % 16 end
    merged[i] = string.char(high + low)
  end
  page = table.concat(merged)
end
redis.call('SET', key, page)
return 'done'
