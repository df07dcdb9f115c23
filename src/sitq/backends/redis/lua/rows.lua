-- Rows: what the store says of a task, and the lane that it is in.
--
-- A task is the hash `t:<id>`. Its fields: `w` the row, `b` the record as its producer packed it, `r` the
-- result, `e` and `g` packed failures and notes on progress one behind the other, `s:<name>` a step, `d` its
-- edges, `m` its limits, `p` and `u` the record of which a unique key brought the payload, or the key.
--
-- A row is a map: seq, lane, state, priority, due, delay, created, ttl, deadline, expires, attempt, failures,
-- crashes, alone, token, owner, lease, stop, started, finished, kept, keep, keepf (for failed ones), stride,
-- reply, u (unique key: {key, scope, window}), behind (a parent more than the record says), tied (has edges),
-- parents (open ones), unarmed, kids (had children), milestone, ends, errors and notes (how many), moved (to another
-- queue than its record says), more (has other fields than `w` and `b`). What is missing is the default. States are letters: blocked, queued, running,
-- completed, failed, x for cancelled, expired, dead.

local TERMINAL = {c = 1, f = 2, x = 3, e = 4, d = 5}
local STATE_NAMES = {c = 'completed', f = 'failed', x = 'cancelled', e = 'expired', d = 'dead'}
local ERRORS_KEPT, PROGRESS_KEPT = 10, 20

local rows, touched, damaged = {}, {}, {}
local new_fields, known_edges = {}, {}

local function key_of(id)
  return prefix .. 't:' .. id
end

-- The row of a task, or false: there is none, or it cannot be read.
local function load(id)
  local row = rows[id]
  if row == nil then
    local packed = call('HGET', key_of(id), 'w')
    local ok, found = false, nil
    if packed then
      ok, found = pcall(cmsgpack.unpack, packed)
    end
    row = ok and type(found) == 'table' and found or false
    if row then
      row.id = id
    elseif packed then
      damaged[id] = true
    end
    rows[id] = row
  end
  return row
end

-- The edges of a task: of each parent, in order, its id and the effects of all edges to it taken together.
local function edges_of(row)
  if not row.tied then
    return {}
  end
  local edges = known_edges[row.id]
  if not edges then
    local packed = call('HGET', key_of(row.id), 'd')
    edges = packed and cmsgpack.unpack(packed) or {}
    known_edges[row.id] = edges
  end
  return edges
end

local function packed_row(row)
  local id = row.id
  row.id = nil
  local packed = pack(row)
  row.id = id
  return packed
end

-- Let a changed row be written when the script ends.
local function touch(row)
  touched[row.id] = row
end

local function write_rows()
  for id, row in pairs(touched) do
    local fields = new_fields[id]
    if fields then
      call('HSET', key_of(id), 'w', packed_row(row), unpack(fields))
    else
      call('HSET', key_of(id), 'w', packed_row(row))
    end
  end
  touched, new_fields = {}, {}
end

local function forget_row(row)
  rows[row.id] = false
  touched[row.id], new_fields[row.id], known_edges[row.id] = nil, nil, nil
  call('UNLINK', key_of(row.id))
end

-- -- lanes ------------------------------------------------------------------------------------------------------

local lanes = {}

-- What a lane's name says. It is made of texts that tell their length: queue, function, Python version (the
-- lane's kind), then "t" and the tenant or "-", then the limit keys.
local function lane_of(name)
  local lane = lanes[name]
  if lane then
    return lane
  end
  lane = {name = name, keys = {}}
  local at
  lane.queue, at = part(name, 1)
  lane.task, at = part(name, at)
  lane.python, at = part(name, at)
  lane.kind, lane.rest = sub(name, 1, at - 1), sub(name, at)
  if sub(name, at, at) == 't' then
    lane.tenant, at = part(name, at + 1)
  else
    at = at + 1
  end
  local seen = {}
  while at <= #name do
    local key
    key, at = part(name, at)
    if not seen[key] then
      seen[key] = true
      lane.keys[#lane.keys + 1] = key
    end
  end
  lanes[name] = lane
  return lane
end

local function queue_of(row)
  return lane_of(row.lane).queue
end

-- -- what rows say ----------------------------------------------------------------------------------------------

-- Where a task stands among the ready ones of its lane: the least starts first.
local function rank_of(row)
  return (4096 - row.priority) * 1099511627776 + row.seq
end

local function last_start(row)
  if (row.attempt or 0) > 0 or not row.expires then
    return row.deadline
  end
  return row.deadline and math.min(row.expires, row.deadline) or row.expires
end

-- From when on a queued task is expired instead of ready, or nil.
local function overdue_at(row)
  local last = last_start(row)
  return last and math.max(row.due, last + 1)
end

-- Whether a task whose id stands behind its unique key still holds it.
local function holds_key(state, created, unique)
  if not unique then
    return false
  elseif unique[2] == 'waiting' then
    return state == 'b' or state == 'q'
  elseif unique[2] == 'active' then
    return not TERMINAL[state]
  end
  return now < created + unique[3]
end

local function key_holder(key)
  local id = call('HGET', prefix .. 'unique', 'k' .. key)
  local row = id and load(id)
  return row and holds_key(row.state, row.created, row.u) and row
end

-- Add a packed value to those that a field holds one behind the other, and keep the newest ones.
local function add_packed(row, field, counter, most, packed)
  local held = call('HGET', key_of(row.id), field) or ''
  local number = held == '' and 0 or row[counter] or 0
  while number >= most do
    local behind = cmsgpack.unpack_one(held, 0)
    held = behind > 0 and sub(held, behind + 1) or ''
    number = number - 1
  end
  row[counter], row.more = number + 1, true
  call('HSET', key_of(row.id), field, held .. packed)
end

local function add_error(row, packed)
  add_packed(row, 'e', 'errors', ERRORS_KEPT, packed)
end

-- A failure of the store's own words, in the order of the fields of `sitq.record.Failure`.
local function failure(kind, message, attempt, worker)
  return pack({kind, '', message, '', attempt or 0, now, worker or ''})
end
