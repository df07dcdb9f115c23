-- rebuild: make all indexes anew from the records, in steps. Whoever meets the store without an index calls it
-- until it is done; of several at once each does a part.
--
-- uses     clock base rows cells lanes meters steps
-- flags    allow-oom
-- ARGV[2]  How many keys of the database a step looks at.
-- answers  1 when the indexes are there, else 0; now.

-- What is no index: the tasks, the cells, the logs, what limits have used, and turns.
local KEPT = {cells = true, logs = true, meters = true, rebuild = true}

local function forget_index(key)
  local name = sub(key, #prefix + 1)
  if not KEPT[name] and not (sub(name, 1, 2) == 't:' or sub(name, 1, 4) == 'log:' or sub(name, 1, 6) == 'turns:') then
    call('UNLINK', key)
  end
end

local function index_edges(row)
  for _, edge in ipairs(edges_of(row)) do
    if call('EXISTS', key_of(edge[1])) == 1 then -- of a parent that was removed nobody asks any more
      call('ZADD', prefix .. 'offspring', 0, net(edge[1]) .. numbered(row))
      if not TERMINAL[row.state] then
        call('ZADD', prefix .. 'children', 0, child_member(edge[1], row, edge[2]))
      end
    end
  end
end

local function index_key(row)
  if not holds_key(row.state, row.created, row.u) then
    return
  end
  local other = call('HGET', prefix .. 'unique', 'k' .. row.u[1])
  local holder = other and load(other)
  if not holder or holder.seq < row.seq then
    call('HSET', prefix .. 'unique', 'k' .. row.u[1], row.id)
  end
end

local function index(id)
  local row = load(id)
  if not row or call('ZADD', prefix .. 'all', 'NX', number16(row.seq), id) == 0 then
    return -- it cannot be read, or was seen before
  end
  local lane = lane_of(row.lane)
  know_queue(lane.queue)
  count(lane.queue, row.state, 1)
  index_edges(row)
  index_key(row)
  if TERMINAL[row.state] then
    pend('keep', numbered(row), purge_at(row))
  else
    local limits = lane.keys[1] and call('HGET', key_of(id), 'm')
    if limits then
      adopt(cmsgpack.unpack(limits), row.seq)
    end
  end
  if row.state == 'q' then
    line_up(row)
  elseif row.state == 'r' then
    pend('lease', numbered(row), row.lease)
    pend('claims', claim_member(row), 0)
    for _, key in ipairs(lane.keys) do
      local meter = meter_of('k' .. key)
      meter.running = meter.running + 1
      touch_meter('k' .. key)
    end
  end
  if row.seq > tonumber(call('HGET', prefix .. 'meta', 'sequence') or 0) then
    call('HSET', prefix .. 'meta', 'sequence', format('%.0f', row.seq))
  end
end

-- Give each index the member that stays. Sets in the order of their bytes have one score for all members.
local KINDS = {
  all = '+inf', children = '0', claims = '0', due = '0', idle = '+inf', keep = '+inf', late = '0',
  lease = '+inf', marks = '0', offspring = '0', order = '0', queues = '+inf',
}

local function seal()
  for _, name in ipairs(INDEXES) do
    if KINDS[name] then
      call('ZADD', prefix .. name, KINDS[name], '')
    else
      call('HSET', prefix .. name, '', '')
    end
  end
  call('DEL', prefix .. 'rebuild')
end

if is_whole() then
  return {1, now}
end
local state = call('HMGET', prefix .. 'rebuild', 'phase', 'cursor', 'era')
local phase, cursor = state[1] or 'clear', state[2] or '0'
era = tonumber(state[3])
if not era then
  local time = call('TIME') -- also where a test's clock stands still, no two rebuilds have the same era
  era = time[1] * 1000000 + time[2]
  call('HSET', prefix .. 'rebuild', 'era', format('%.0f', era))
  call('UNLINK', prefix .. 'whole')
end
local step = call('SCAN', cursor, 'MATCH', prefix .. (phase == 'clear' and '*' or 't:*'), 'COUNT', ARGV[2])
for _, key in ipairs(step[2]) do
  if phase == 'clear' then
    forget_index(key)
  else
    index(sub(key, #prefix + 3))
  end
end
if phase == 'fill' then
  freed = {}
  write_lanes()
  write_meters()
  write_pending()
  write_counts()
end
if step[1] ~= '0' then
  call('HSET', prefix .. 'rebuild', 'phase', phase, 'cursor', step[1])
elseif phase == 'clear' then
  call('HSET', prefix .. 'rebuild', 'phase', 'fill', 'cursor', '0')
else
  call('HSET', prefix .. 'meta', 'era', format('%.0f', era))
  seal()
  for _, queue in ipairs(call('ZRANGE', prefix .. 'queues', 0, -1)) do
    if queue ~= '' then
      hint('queue/' .. queue)
    end
  end
  tell_hints()
  return {1, now}
end
return {0, now}
