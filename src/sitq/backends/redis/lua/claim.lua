-- A claim: which ready tasks may start, one after another by the contract's order.
--
-- Of a queue it looks at sources: lanes of one kind in the order in which they would start, either open ones or
-- those that wait for a hold which has opened. The next task is the best one of all sources' heads. A lane
-- that may not start is put under its hold, and is then out of the way of all claims until that opens.

local UPKEEP = 1000 -- how many tasks a claim brings up to date in each of its two ways
local DUE = 10000 -- how many tasks of a queue that became due a claim makes ready
local FEW = 8 -- so many lanes of a hold that opens go back to the open ones; of more, only the best are looked at

local want, leave_names, reclaims
local next_at, taken, answer, looked_at, opened = NEVER, 0, {}, {}, {}

local function read_want(packed, asked)
  want = {token = packed[1], worker = packed[2], shares = packed[3], limit = packed[4], lease = packed[5],
    python = packed[6]}
  leave_names = {}
  for _, name in ipairs(packed[7]) do
    leave_names[name] = true
  end
  -- What held the claim up for so long may have held renewals up as well.
  reclaims = packed[8] and not (asked > 0 and now - asked >= want.lease / 4)
end

local function soonest(at)
  next_at = math.min(next_at, at)
end

local function show(id, packed, more)
  answer[#answer + 1] = id
  answer[#answer + 1] = packed
  if more then
    answer[#answer + 1] = call('HGETALL', key_of(id))
  else
    answer[#answer + 1] = call('HGET', key_of(id), 'b')
  end
end

-- Whether tasks run under the claim already; then they are the answer.
local function runs_already()
  local base, found = net(want.token), {}
  for _, member in ipairs(under('claims', base)) do
    local row = load(sub(member, #base + 1))
    if row and row.state == 'r' and row.token == want.token then
      found[#found + 1] = row
    end
  end
  table.sort(found, function(one, other) return one.seq < other.seq end)
  for _, row in ipairs(found) do
    show(row.id, packed_row(row), row.more)
  end
  return #found > 0
end

local function start(row, lane)
  count(lane.queue, 'q', -1)
  count(lane.queue, 'r', 1)
  if row.expires or row.deadline then
    local at = overdue_at(row)
    if at then
      call('ZREM', prefix .. 'late', late_member(row, at))
    end
  end
  row.state, row.attempt, row.token, row.owner = 'r', (row.attempt or 0) + 1, want.token, want.worker
  row.lease, row.started = now + want.lease, now
  for _, key in ipairs(lane.keys) do
    start_meter('k' .. key)
  end
  pend('lease', number16(row.seq) .. row.id, row.lease)
  pend('claims', net(row.token) .. row.id, 0)
  local packed = packed_row(row)
  call('HSET', key_of(row.id), 'w', packed)
  touched[row.id] = nil
  taken = taken + 1
  show(row.id, packed, row.more)
end

-- -- sources ------------------------------------------------------------------------------------------------------

local function is_eligible(name, python)
  if leave_names[name] or (python ~= '' and python ~= want.python) then
    return false
  end
  local paused = pause_end('pause/name/' .. name)
  if paused > now then
    soonest(paused)
    return false
  end
  return true
end

-- Add the sources of a queue: the open ones, or those of a hold (`group` is what their entries begin with).
local function add_sources(sources, group, hold, queue)
  for _, letter in ipairs({'p', 'f'}) do
    local base = group .. letter .. net(queue)
    local from = '[' .. base
    while true do
      local member = call('ZRANGEBYLEX', prefix .. 'order', from, '[' .. base .. '\255', 'LIMIT', 0, 1)[1]
      if not member then
        break
      end
      local name, at = part(member, #base + 1)
      local python
      python, at = part(member, at)
      local before = sub(member, 1, at - 1)
      if is_eligible(name, python) then
        sources[#sources + 1] = {before = before, kind = sub(before, #group + 2), fair = letter == 'f', hold = hold}
      end
      from = '[' .. before .. '\255'
    end
  end
end

local function held_lanes(hold, queue)
  local number = 0
  for _, letter in ipairs({'p', 'f'}) do
    local base = 'h' .. net(hold) .. letter .. net(queue)
    number = number + call('ZLEXCOUNT', prefix .. 'order', '[' .. base, '[' .. base .. '\255')
  end
  return number
end

local function open_lanes(hold, queue)
  for _, letter in ipairs({'p', 'f'}) do
    local group = 'h' .. net(hold) .. letter
    for _, member in ipairs(under('order', group .. net(queue))) do
      local at, place = #group + 1, nil
      for _ = 1, 3 do
        _, at = part(member, at)
      end
      local digits = letter == 'f' and 34 or 16
      local lane = lane_of(sub(member, #group + 1, at - 1) .. sub(member, at + digits))
      place = place_of(lane)
      if place then
        set_place(lane, nil, place.rank, place.turn)
      end
    end
  end
end

-- Look at the holds that may have opened: few lanes go back to the open ones, many become sources.
local function reopen(sources, queue)
  local base = net(queue)
  local from, last = '[' .. base, '[' .. base .. instant18(now) .. '\255'
  while true do
    local marks = call('ZRANGEBYLEX', prefix .. 'marks', from, last, 'LIMIT', 0, 100)
    for _, mark in ipairs(marks) do
      local hold = sub(mark, #base + 19)
      local at = hold_opens(hold)
      local number = held_lanes(hold, queue)
      if number == 0 then
        drop_mark(queue, hold)
      elseif at > now then
        set_mark(queue, hold, at)
      elseif number <= FEW then
        open_lanes(hold, queue)
        drop_mark(queue, hold)
      else
        add_sources(sources, 'h' .. net(hold), hold, queue)
        opened[#opened + 1] = {queue, hold}
      end
    end
    if #marks < 100 then
      return
    end
    from = '(' .. marks[100]
  end
end

local function look_at(queue)
  local paused = pause_end('pause/queue/' .. queue)
  if paused > now then
    soonest(paused)
    return {}
  end
  local sources = {}
  reopen(sources, queue)
  add_sources(sources, '', nil, queue)
  return sources
end

-- The best lane of a source, with its turn and rank; false if there is none.
local function head_of(source, queue)
  if source.head ~= nil then
    return source.head
  end
  while true do
    local member = under('order', source.before, 1)[1]
    if not member then
      source.head = false
      return false
    end
    local at, turn = #source.before + 1, 0
    if source.fair then
      turn = tonumber(sub(member, at, at + 17))
      at = at + 18
    end
    local rank = tonumber(sub(member, at, at + 15))
    local lane = lane_of(source.kind .. sub(member, at + 16))
    local actual = source.fair and turn_of(queue, lane.tenant) or 0
    if actual <= turn then
      source.head = {lane = lane, turn = turn, rank = rank, source = source}
      return source.head
    end
    set_place(lane, source.hold, rank, actual)
    if places[lane.name].member == member then -- it is not where it says that it is
      is_broken = true
      source.head = false
      return false
    end
  end
end

-- What forbids a lane's start, and until when; nil if nothing does.
local function forbidding(lane)
  local by, last = nil, now
  for _, key in ipairs(lane.keys) do
    local at = hold_opens('k' .. key)
    if at > last then
      by, last = 'k' .. key, at
    end
  end
  if lane.tenant then
    local at = hold_opens('t' .. lane.tenant)
    if at > last then
      by, last = 't' .. lane.tenant, at
    end
  end
  return by, last
end

-- -- starting ---------------------------------------------------------------------------------------------------------

local function stride_of(row)
  return row.stride or 1000000
end

-- Start tasks of a lane, whose best one has this rank, at most so many, and none from the rank `bound` on.
local function serve(lane, rank, most, bound)
  local key = prefix .. 'ready:' .. lane.name
  if bound < math.huge then
    most = math.min(most, call('ZCOUNT', key, '-inf', '(' .. number16(bound)))
  end
  local popped = call('ZPOPMIN', key, math.min(most, 2000))
  if tonumber(popped[2]) ~= rank then -- its ready tasks were lost; others may have come since
    is_broken = true
    leave_place(lane)
    return
  end
  for n = 1, #popped, 2 do
    local row = load(popped[n])
    if not row or row.state ~= 'q' then
      is_broken = true
    else
      local at = overdue_at(row)
      if at and at <= now then
        expire_one(row)
      else
        local turn = turn_of(lane.queue, lane.tenant)
        start(row, lane)
        move_turn(lane.queue, lane.tenant, turn, stride_of(row))
      end
    end
  end
  touched_lanes[lane.name] = lane
  write_lanes()
end

local function start_tasks(queue, sources, goal)
  while taken < goal and not is_broken do -- without an index, what comes next is not known
    local best, second, fair
    local plain_turn = turn_of(queue, nil)
    for _, source in ipairs(sources) do
      local head = head_of(source, queue)
      if head then
        if source.fair then
          fair = true
        else
          head.turn = plain_turn
        end
        if not best or head.turn < best.turn or (head.turn == best.turn and head.rank < best.rank) then
          best, second = head, best
        elseif not second or head.rank < second.rank then
          second = head
        end
      end
    end
    if not best then
      return
    end
    local lane, source = best.lane, best.source
    local hold, at = forbidding(lane)
    if hold then
      set_place(lane, hold, best.rank, source.fair and best.turn or nil)
      set_mark(queue, hold, at)
      soonest(at)
      source.head = nil
    elseif fair or #lane.keys > 0 then
      serve(lane, best.rank, 1, math.huge)
      for _, each in ipairs(sources) do
        if each.fair or each == source then
          each.head = nil
        end
      end
    else
      local bound = second and second.rank or math.huge
      local next_one = call('ZRANGEBYLEX', prefix .. 'order', '[' .. source.before, '[' .. source.before .. '\255', 'LIMIT', 1, 1)[1]
      if next_one then
        local there = #source.before + 1
        bound = math.min(bound, tonumber(sub(next_one, there, there + 15)))
      end
      serve(lane, best.rank, goal - taken, bound)
      source.head = nil
    end
  end
end

-- -- limits of queues -------------------------------------------------------------------------------------------------

local function is_whole_number(value)
  return type(value) == 'number' and value == math.floor(value)
end

-- The limit that a queue has of its own, or nil; a cell that holds none is none.
local function limit_of(queue)
  if not are_cells('limit/queue/') then
    return nil
  end
  local value = live_cell('limit/queue/' .. queue)
  local ok, limit = pcall(cjson.decode, value or '')
  if not ok or type(limit) ~= 'table' or type(limit[1]) ~= 'string' then
    return nil
  end
  for n = 2, 5 do
    local optional = n < 4 and (limit[n] == cjson.null or limit[n] == nil)
    if not (optional or is_whole_number(limit[n]) or (n > 3 and limit[n] == nil)) then
      return nil
    end
  end
  local meter = meter_of('q' .. queue)
  meter.slots = limit[2] ~= cjson.null and limit[2] or nil
  meter.rate = limit[3] ~= cjson.null and limit[3] or nil
  meter.per, meter.burst = limit[4], limit[5]
  meter.running = count_of(queue, 'r')
  return meter
end

local function room_in(meter, most)
  if meter.slots then
    most = math.max(0, math.min(most, meter.slots - meter.running))
  end
  if not meter.rate or most == 0 then
    return most
  end
  local starts, arrival, interval = 0, meter.arrival, interval_of(meter)
  while meter.rate > 0 and starts < most and arrival - ((meter.burst or 1) - 1) * interval <= now do
    arrival = math.max(arrival, now) + interval
    starts = starts + 1
  end
  return starts
end

-- -- the claim --------------------------------------------------------------------------------------------------------

local function fill(queue, most)
  local goal = math.min(taken + most, want.limit)
  if goal <= taken then
    return
  end
  if not looked_at[queue] then
    looked_at[queue] = look_at(queue)
  end
  local sources = looked_at[queue]
  local own = #sources > 0 and limit_of(queue)
  if not own then
    return start_tasks(queue, sources, goal)
  end
  local begun = taken
  start_tasks(queue, sources, begun + room_in(own, goal - begun))
  for _ = begun + 1, taken do
    start_meter('q' .. queue)
  end
  for _, source in ipairs(sources) do
    if head_of(source, queue) then
      soonest(math.max(now, opens(own)))
      break
    end
  end
end

local function bring_up_to_date()
  if reclaims then
    reclaim(UPKEEP)
  end
  local left = UPKEEP
  for _, share in ipairs(want.shares) do
    left = left - expire(share[1], left)
  end
  for _, share in ipairs(want.shares) do
    if promote(share[1], DUE) == DUE then
      soonest(now)
    end
  end
  write_lanes()
  write_freed()
end

-- Say when the lanes that wait for holds are to be looked at again.
local function leave_marks()
  for _, each in ipairs(opened) do
    local queue, hold = each[1], each[2]
    if held_lanes(hold, queue) == 0 then
      drop_mark(queue, hold)
    else
      local at = hold_opens(hold)
      set_mark(queue, hold, at > now and at or 0)
    end
  end
end

local function first_after_now(key, queue)
  local base = net(queue)
  local member = call('ZRANGEBYLEX', prefix .. key, '(' .. base .. instant18(now) .. '\255', '[' .. base .. '\255', 'LIMIT', 0, 1)[1]
  if member then
    soonest(tonumber(sub(member, #base + 1, #base + 18)))
  end
end

-- When something more may become claimable; 0 if only news can change that.
local function next_instant()
  if taken >= want.limit or is_broken then -- what an index has lost is there again for the next claim
    return now
  end
  for _, share in ipairs(want.shares) do
    first_after_now('due', share[1])
    if not (pause_end('pause/queue/' .. share[1]) > now) then
      first_after_now('marks', share[1])
    end
  end
  if reclaims then
    local lease = call('ZRANGE', prefix .. 'lease', 0, 0, 'WITHSCORES')[2]
    soonest(tonumber(lease) or NEVER)
  end
  if next_at >= NEVER then
    return 0
  end
  return math.max(next_at, now)
end

local function run_claim()
  bring_up_to_date()
  for _, share in ipairs(want.shares) do
    fill(share[1], share[2])
  end
  for _, share in ipairs(want.shares) do
    fill(share[1], want.limit)
  end
  leave_marks()
  write_pending()
  return next_instant()
end
