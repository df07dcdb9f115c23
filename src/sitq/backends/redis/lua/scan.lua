-- scan: a page of tasks in order of sequence.
--
-- uses     clock base rows
-- flags    no-writes
-- ARGV[2]  The sequence to go on behind, or empty.
-- ARGV[3]  The most tasks of the page.
-- ARGV[4]  The most to look at.
-- ARGV[5]  What is looked for, packed, as far as it is told here: states (their letters), queue, name, owner,
--          parent, finished (before), created (before), down.
-- ARGV[6]  A text in lower case that the packed record must hold, or empty.
-- ARGV[7]  A text that the packed record must hold, or empty.
-- answers  The sequence to go on behind, or 0: there are no more; and for each task all its fields and their
--          values.

if not is_whole() then
  return refuse_broken()
end
local after, most, budget = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local where, found = cmsgpack.unpack(ARGV[5]), {}

local function next_ids(step)
  if where.parent then
    local base, ids = net(where.parent), {}
    local key, low, high = prefix .. 'offspring', '[' .. base, '[' .. base .. '\255'
    if after and where.down then
      high = '(' .. base .. number16(after)
    elseif after then
      low = '(' .. base .. number16(after) .. '\255'
    end
    local members
    if where.down then
      members = call('ZREVRANGEBYLEX', key, high, low, 'LIMIT', 0, step)
    else
      members = call('ZRANGEBYLEX', key, low, high, 'LIMIT', 0, step)
    end
    for n, member in ipairs(members) do
      ids[2 * n - 1], ids[2 * n] = sub(member, #base + 17), sub(member, #base + 1, #base + 16)
    end
    return ids
  end
  local key = prefix .. 'all'
  if where.down then
    return call('ZREVRANGEBYSCORE', key, after and '(' .. format('%.0f', after) or '(inf', '-inf', 'WITHSCORES', 'LIMIT', 0, step)
  end
  return call('ZRANGEBYSCORE', key, after and '(' .. format('%.0f', after) or '-inf', '(inf', 'WITHSCORES', 'LIMIT', 0, step)
end

local function fits(row, id)
  if (where.states and not string.find(where.states, row.state, 1, true))
    or (where.owner and row.owner ~= where.owner)
    or (where.created and row.created >= where.created)
    or (where.finished and not (row.finished and row.finished < where.finished)) then
    return false
  end
  if where.queue or where.name then
    local lane = lane_of(row.lane)
    if (where.queue and lane.queue ~= where.queue) or (where.name and lane.task ~= where.name) then
      return false
    end
  end
  if ARGV[6] ~= '' or ARGV[7] ~= '' then
    local body = call('HGET', key_of(id), 'b') or ''
    local brought = call('HGET', key_of(id), 'p') or ''
    local all = string.lower(id .. '\0' .. body .. '\0' .. brought)
    return (ARGV[6] == '' or string.find(all, ARGV[6], 1, true)) and (ARGV[7] == '' or string.find(body, ARGV[7], 1, true))
  end
  return true
end

while true do
  local step = math.min(budget, math.max(100, most))
  local ids = next_ids(step)
  for n = 1, #ids, 2 do
    if #found >= most then
      return {after or 0, found}
    end
    after = tonumber(ids[n + 1])
    local row = load(ids[n])
    if row and fits(row, ids[n]) then
      found[#found + 1] = call('HGETALL', key_of(ids[n]))
      table.insert(found[#found], 'id')
      table.insert(found[#found], ids[n])
    end
  end
  budget = budget - step
  if #ids < 2 * step then
    return {0, found}
  elseif budget <= 0 then
    return {#next_ids(1) > 0 and after or 0, found}
  end
end
