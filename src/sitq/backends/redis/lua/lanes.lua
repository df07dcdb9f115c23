-- Lanes: ready tasks by lane, and the lanes by what their best task is.
--
-- `ready:<lane>` has the ids of a lane's ready tasks by rank. `order` has one entry for each lane that is not
-- empty. Those without a tenant: "p", kind, rank of its best task, rest of its name. Those with one: "f", kind,
-- turn, rank, rest. A lane that waits for a limit key or a paused tenant has "h" and that hold in front. The
-- turn may be too low, never too high: whoever meets it looks it up and puts the lane where it belongs.
-- `places` has each lane's entry. `marks` says from when on a hold may let lanes of a queue start again.

local ready_in, touched_lanes, places = {}, {}, {}
local is_broken = false

-- -- turns ------------------------------------------------------------------------------------------------------

local turns = {}

local function turns_of(queue)
  local known = turns[queue]
  if not known then
    local served = call('HGET', prefix .. 'turns:' .. queue, 's')
    known = {served = tonumber(served or 0), of = {}, moved = {}}
    turns[queue] = known
  end
  return known
end

local function tenant_field(tenant)
  return tenant and 't' .. tenant or 'n'
end

-- The turn at which a task of the tenant would start.
local function turn_of(queue, tenant)
  local known, field = turns_of(queue), tenant_field(tenant)
  if not known.of[field] then
    known.of[field] = tonumber(call('HGET', prefix .. 'turns:' .. queue, field) or 0)
  end
  return math.max(known.of[field], known.served)
end

local function move_turn(queue, tenant, turn, stride)
  local known, field = turns_of(queue), tenant_field(tenant)
  known.served, known.of[field], known.moved[field] = turn, turn + stride, true
end

local function write_turns()
  for queue, known in pairs(turns) do
    local list = {}
    for field in pairs(known.moved) do
      list[#list + 1] = field
      list[#list + 1] = format('%.0f', known.of[field])
    end
    if #list > 0 then
      list[#list + 1] = 's'
      list[#list + 1] = format('%.0f', known.served)
      in_runs('HSET', 'turns:' .. queue, list)
    end
  end
  turns = {}
end

-- -- places -----------------------------------------------------------------------------------------------------

-- Where a lane is in `order`, or false.
local function place_of(lane)
  local place = places[lane.name]
  if place == nil then
    local member = call('HGET', prefix .. 'places', lane.name)
    place = false
    if member then
      place = {member = member}
      local at = 1
      if sub(member, 1, 1) == 'h' then
        place.hold, at = part(member, 2)
      end
      at = at + 1 + #lane.kind
      if lane.tenant then
        place.turn = tonumber(sub(member, at, at + 17))
        at = at + 18
      end
      place.rank = tonumber(sub(member, at, at + 15))
    end
    places[lane.name] = place
  end
  return place
end

local function leave_place(lane)
  local place = place_of(lane)
  if place then
    call('ZREM', prefix .. 'order', place.member)
    call('HDEL', prefix .. 'places', lane.name)
    places[lane.name] = false
  end
end

local function set_place(lane, hold, rank, turn)
  local member = (hold and 'h' .. net(hold) or '') .. (lane.tenant and 'f' or 'p') .. lane.kind
    .. (lane.tenant and instant18(turn) or '') .. number16(rank) .. lane.rest
  local old = place_of(lane)
  if old and old.member == member then
    return
  end
  if old then
    call('ZREM', prefix .. 'order', old.member)
  end
  call('ZADD', prefix .. 'order', 0, member)
  call('HSET', prefix .. 'places', lane.name, member)
  places[lane.name] = {member = member, hold = hold, rank = rank, turn = turn}
end

-- Put a lane where its best ready task belongs.
local function replace_lane(lane)
  local head = call('ZRANGE', prefix .. 'ready:' .. lane.name, 0, 0, 'WITHSCORES')
  if not head[1] then
    return leave_place(lane)
  end
  local place = place_of(lane)
  local rank = tonumber(head[2])
  if place then
    set_place(lane, place.hold, rank, place.turn)
  else
    set_place(lane, nil, rank, lane.tenant and turn_of(lane.queue, lane.tenant))
  end
end

-- Write what is known of lanes, for the rest of the script to read.
local function write_lanes()
  for name, list in pairs(ready_in) do
    local lane = lane_of(name)
    -- A lane that this script emptied is still in its place.
    if not touched_lanes[name] and place_of(lane) and call('EXISTS', prefix .. 'ready:' .. name) == 0 then
      is_broken = true
    end
    in_runs('ZADD', 'ready:' .. name, list)
    touched_lanes[name] = lane
  end
  ready_in = {}
  for _, lane in pairs(touched_lanes) do
    replace_lane(lane)
  end
  touched_lanes = {}
end

-- -- tasks that are queued ------------------------------------------------------------------------------------------

local function line_up_ready(row)
  local list = ready_in[row.lane]
  if not list then
    list = {}
    ready_in[row.lane] = list
  end
  list[#list + 1] = number16(rank_of(row))
  list[#list + 1] = row.id
end

local function late_member(row, at)
  return net(queue_of(row)) .. instant18(at) .. number16(row.seq) .. row.id
end

-- Put a queued task in its place.
local function line_up(row)
  if row.due <= now then
    line_up_ready(row)
  else
    call('ZADD', prefix .. 'due', 0, net(queue_of(row)) .. instant18(row.due) .. row.id)
  end
  if row.expires or row.deadline then
    local at = overdue_at(row)
    if at then
      call('ZADD', prefix .. 'late', 0, late_member(row, at))
    end
  end
end

-- Take a queued task out of its place.
local function fall_out(row)
  if ready_in[row.lane] then
    write_lanes()
  end
  if call('ZREM', prefix .. 'ready:' .. row.lane, row.id) == 1 then
    touched_lanes[row.lane] = lane_of(row.lane)
  else
    call('ZREM', prefix .. 'due', net(queue_of(row)) .. instant18(row.due) .. row.id)
  end
  if row.expires or row.deadline then
    local at = overdue_at(row)
    if at then
      call('ZREM', prefix .. 'late', late_member(row, at))
    end
  end
end

-- Let what has become due be ready; at most so many tasks.
local function promote(queue, most)
  local base = net(queue)
  local due = call('ZRANGEBYLEX', prefix .. 'due', '[' .. base, '[' .. base .. instant18(now) .. '\255', 'LIMIT', 0, most)
  for _, member in ipairs(due) do
    local row = load(sub(member, #base + 19))
    if row and row.state == 'q' then
      line_up_ready(row)
    end
  end
  in_runs('ZREM', 'due', due)
  return #due
end

-- -- marks ------------------------------------------------------------------------------------------------------------

local function drop_mark(queue, hold)
  local field = net(queue) .. hold
  local old = call('HGET', prefix .. 'markat', field)
  if old then
    call('ZREM', prefix .. 'marks', net(queue) .. old .. hold)
    call('HDEL', prefix .. 'markat', field)
  end
end

local function set_mark(queue, hold, at)
  local field, text = net(queue) .. hold, instant18(math.min(at, NEVER))
  local old = call('HGET', prefix .. 'markat', field)
  if old ~= text then
    if old then
      call('ZREM', prefix .. 'marks', net(queue) .. old .. hold)
    end
    call('ZADD', prefix .. 'marks', 0, net(queue) .. text .. hold)
    call('HSET', prefix .. 'markat', field, text)
  end
end

-- The queues with lanes that wait for a hold.
local function queues_held(hold)
  local found = {}
  for _, letter in ipairs({'p', 'f'}) do
    local base = 'h' .. net(hold) .. letter
    local from = '[' .. base
    while true do
      local member = call('ZRANGEBYLEX', prefix .. 'order', from, '[' .. base .. '\255', 'LIMIT', 0, 1)[1]
      if not member then
        break
      end
      local queue = part(member, #base + 1)
      found[queue] = true
      from = '[' .. base .. net(queue) .. '\255'
    end
  end
  return found
end
