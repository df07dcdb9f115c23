-- Restoring: how a record that another store kept is stored as it is.

local PLAIN = {'created', 'expires', 'attempt', 'failures', 'crashes', 'alone', 'token', 'started', 'finished', 'kept', 'ends'}

local function note_edges(row, edges)
  row.tied, known_edges[row.id] = true, edges
  for _, edge in ipairs(edges) do
    local parent = load(edge[1])
    if parent then
      parent.kids = true
      touch(parent)
      if not TERMINAL[row.state] then
        call('ZADD', prefix .. 'children', 0, child_member(edge[1], row, edge[2]))
      end
      call('ZADD', prefix .. 'offspring', 0, net(edge[1]) .. numbered(row))
    end
  end
end

local function line_up_restored(row, edges)
  local queue = queue_of(row)
  count(queue, row.state, 1)
  if row.state == 'b' then
    row.due = math.max(row.due, now)
    row.parents, row.unarmed = #edges, needs_arming(edges) or nil
    meet_parents({row})
  elseif row.state == 'q' then
    row.delay = nil
    line_up(row)
    hint('queue/' .. queue)
  else
    pend('keep', numbered(row), purge_at(row))
    hint_end(row)
  end
end

-- {"restore", id, spec, place of the packed record, what its store said of it}: of that, `errors`, `notes`,
-- `result` and `steps` are places, too.
local function restore(move, most)
  local id, spec, said = move[2], move[3], move[5]
  local more, edges = spec[7] or NOTHING, by_parent((spec[7] or NOTHING).edges or NOTHING)
  if load(id) or damaged[id] or said.state == 'r' or spec[5] > most then
    return false
  end
  for _, edge in ipairs(said.state == 'b' and edges or NOTHING) do
    if not load(edge[1]) then
      return false
    end
  end
  local row = {
    id = id, seq = call('HINCRBY', prefix .. 'meta', 'sequence', 1), lane = spec[2], state = said.state,
    priority = spec[3], due = spec[4], delay = more.delay, ttl = more.ttl, deadline = more.deadline,
    keep = more.keep, keepf = more.keepf, stride = more.stride, reply = spec[6], milestone = more.milestone,
  }
  for _, name in ipairs(PLAIN) do
    row[name] = said[name]
  end
  if more.unique then
    row.u = {more.unique[1], more.unique[2], more.unique[3]}
  end
  local fields = {'b', ARGV[move[4]]}
  local function keep_field(name, place)
    if place then
      fields[#fields + 1], fields[#fields + 2] = name, ARGV[place]
      row.more = true
    end
  end
  keep_field('e', said.error_list)
  keep_field('g', said.note_list)
  keep_field('r', said.result)
  row.errors, row.notes = said.errors, said.notes
  for name, place in pairs(said.steps or NOTHING) do
    keep_field('s:' .. name, place)
  end
  rows[id], new_fields[id] = row, fields
  touch(row)
  know_queue(queue_of(row))
  pend('all', id, row.seq)
  if more.limits then
    fields[#fields + 1], fields[#fields + 2] = 'm', pack(more.limits)
    if not TERMINAL[row.state] then
      adopt(more.limits, row.seq)
    end
  end
  if edges[1] then
    fields[#fields + 1], fields[#fields + 2] = 'd', pack(edges)
    note_edges(row, edges)
  end
  write_rows() -- what follows may add to its fields
  touch(row)
  line_up_restored(row, edges)
  if holds_key(row.state, row.created, row.u) and not key_holder(row.u[1]) then
    call('HSET', prefix .. 'unique', 'k' .. row.u[1], id)
  end
  return true
end
