-- Admission: how a group of new tasks is judged and stored, whole or not at all.
--
-- A spec is what the store has to know of a new task: id, lane, priority, due, size of the payload, reply, and a
-- map of what is not the default: delay, ttl, deadline, keep, keepf, stride, unique {key, scope, window, clash,
-- whether it brings the payload, whether the due time}, limits, edges {parent, effects}, milestone, room.
-- The record as its producer packed it comes beside it, since Lua cannot read its bytes.

-- Effects of several edges to one parent, taken together: per state the first end of the child, else whether
-- one of them arms it.
local function merged(one, other)
  local letters = {}
  for n = 1, 5 do
    local first, second = sub(one, n, n), sub(other, n, n)
    if first == 'c' or first == 'f' then
      letters[n] = first
    elseif second == 'c' or second == 'f' then
      letters[n] = second
    else
      letters[n] = (first == 'a' or second == 'a') and 'a' or 'g'
    end
  end
  return table.concat(letters)
end

-- The edges with each parent once, in order.
local function by_parent(edges)
  local list, place = {}, {}
  for _, edge in ipairs(edges) do
    local at = place[edge[1]]
    if at then
      list[at][2] = merged(list[at][2], edge[2])
    else
      list[#list + 1] = {edge[1], edge[2]}
      place[edge[1]] = #list
    end
  end
  return list
end

local function needs_arming(edges)
  for _, edge in ipairs(edges) do
    if string.find(edge[2], 'a', 1, true) then
      return true
    end
  end
  return false
end

-- Store a new task: blocked if it has edges, queued otherwise.
local function place(draft)
  local spec, more, lane = draft.spec, draft.more, lane_of(draft.spec[2])
  local seq = call('HINCRBY', prefix .. 'meta', 'sequence', 1)
  local row = {
    id = spec[1], seq = seq, lane = spec[2], state = 'b', priority = spec[3], due = math.max(draft.due, now),
    delay = draft.delay, created = now, ttl = more.ttl, deadline = more.deadline, keep = more.keep,
    keepf = more.keepf, stride = more.stride, reply = draft.spec[6], u = draft.unique, behind = draft.behind,
    milestone = more.milestone, more = draft.more_fields,
  }
  rows[row.id] = row
  touch(row)
  local fields = {'b', draft.body}
  if draft.payload_from then
    fields[#fields + 1], fields[#fields + 2] = 'p', draft.payload_from
  end
  if draft.unique_from then
    fields[#fields + 1], fields[#fields + 2] = 'u', draft.unique_from
  end
  if more.limits then
    adopt(more.limits, seq)
    fields[#fields + 1], fields[#fields + 2] = 'm', pack(more.limits)
  end
  know_queue(lane.queue)
  pend('all', row.id, seq)
  if row.u then
    call('HSET', prefix .. 'unique', 'k' .. row.u[1], row.id)
  end
  if draft.edges[1] then
    local edges = by_parent(draft.edges)
    row.tied, row.parents, row.unarmed = true, #edges, needs_arming(draft.edges) or nil
    fields[#fields + 1], fields[#fields + 2] = 'd', pack(edges)
    known_edges[row.id] = edges
    for _, edge in ipairs(edges) do
      call('ZADD', prefix .. 'children', 0, child_member(edge[1], row, edge[2]))
      call('ZADD', prefix .. 'offspring', 0, net(edge[1]) .. numbered(row))
    end
  end
  new_fields[row.id] = fields
  if draft.edges[1] then
    count(lane.queue, 'b', 1)
  elseif row.milestone then
    count(lane.queue, 'b', 1)
    end_alone(row, 'c')
  else
    queue_first(row)
  end
  return row
end

-- The view of whoever holds a unique key: of a task of this group, of one that this group changes, or stored.
local function holder_in(group, key)
  local id = group.keys[key] or call('HGET', prefix .. 'unique', 'k' .. key)
  if not id then
    return nil
  end
  local draft = group.fresh[id]
  if draft then
    local state = draft.edges[1] and 'b' or 'q'
    return holds_key(state, now, draft.unique) and {id = id, state = state, lane = draft.spec[2], draft = draft} or nil
  end
  local row = load(id)
  local changed = group.replaced[id]
  if row and holds_key(row.state, row.created, changed and changed.unique or row.u) then
    return {id = id, state = row.state, lane = row.lane, row = row}
  end
end

-- Let a newcomer's fields take the place of those of a waiting holder of its key.
local function take_over(group, draft, holder)
  local unique = draft.more.unique
  local target = holder.draft
  if not target then
    target = group.replaced[holder.id]
    if not target then
      target = {due = holder.row.due, delay = holder.row.delay, row = holder.row}
      group.replaced[holder.id] = target
      group.replacing[#group.replacing + 1] = target
    end
  end
  if unique[5] then
    target.payload_from = draft.body
  end
  if unique[6] then
    target.due = math.max(draft.spec[4], now)
    if holder.draft or holder.state == 'b' then -- its due time is still to be computed
      target.delay = draft.more.delay
    else
      target.due = target.due + (draft.more.delay or 0)
      target.delay = nil
    end
  end
  target.unique, target.unique_from, target.more_fields = draft.unique, draft.body, true
end

-- The answer to a newcomer whose key is held, or nil if it is placed all the same.
local function clash_with(group, draft, holder)
  local clash = draft.more.unique[4]
  local waits = holder.state == 'b' or holder.state == 'q'
  if clash == 'refuse' then
    return {'x', 'unique', holder.id}
  elseif clash == 'replace' and waits then
    if lane_of(holder.lane).kind ~= lane_of(draft.spec[2]).kind then
      return {'x', 'unique', holder.id}
    end
    if draft.more.unique[5] and holder.state == 'b' then -- new arguments would wait for its parents, too
      return {'x', 'unique', holder.id}
    end
    take_over(group, draft, holder)
    return {'r', holder.id}
  elseif clash == 'again' and holder.state == 'r' then
    draft.behind = holder.id
    draft.edges[#draft.edges + 1] = {holder.id, 'ggggg'}
    return nil
  end
  return {'d', holder.id}
end

-- What becomes of a record, its parents left aside.
local function judge(group, spec, body, most)
  local id, more = spec[1], spec[7] or NOTHING
  if group.fresh[id] or load(id) or damaged[id] then
    return {'d', id}
  elseif spec[5] > most then
    return {'x', 'payload', format('%.0f', spec[5])}
  end
  local draft = {spec = spec, more = more, body = body, due = spec[4], delay = more.delay, edges = {}}
  for n, edge in ipairs(more.edges or NOTHING) do
    draft.edges[n] = edge
  end
  if more.unique then
    draft.unique = {more.unique[1], more.unique[2], more.unique[3]}
    local holder = holder_in(group, more.unique[1])
    local answer = holder and clash_with(group, draft, holder)
    if answer then
      return answer
    end
  end
  local queue = lane_of(spec[2]).queue
  if more.room then
    local waiting = count_of(queue, 'b') + count_of(queue, 'q') + (group.waiting[queue] or 0)
    if waiting >= more.room then
      return {'x', 'full', queue}
    end
  end
  if more.unique then
    group.keys[more.unique[1]] = id
  end
  group.waiting[queue] = (group.waiting[queue] or 0) + 1
  group.fresh[id] = draft
  group.drafts[#group.drafts + 1] = draft
  return 1
end

-- The id of a task that depends on itself through tasks of the same group, or nil (Kahn 1962).
local function cycle_in(group)
  local open, children, free_ones, left = {}, {}, {}, 0
  for _, draft in ipairs(group.drafts) do
    local parents, number = {}, 0
    for _, edge in ipairs(draft.edges) do
      if group.fresh[edge[1]] and not parents[edge[1]] then
        parents[edge[1]] = true
        number = number + 1
        children[edge[1]] = children[edge[1]] or {}
        table.insert(children[edge[1]], draft.spec[1])
      end
    end
    open[draft.spec[1]] = {parents = parents, number = number}
    left = left + 1
    if number == 0 then
      free_ones[#free_ones + 1] = draft.spec[1]
    end
  end
  while #free_ones > 0 do
    local id = table.remove(free_ones)
    open[id] = nil
    left = left - 1
    for _, child in ipairs(children[id] or NOTHING) do
      open[child].parents[id] = nil
      open[child].number = open[child].number - 1
      if open[child].number == 0 then
        free_ones[#free_ones + 1] = child
      end
    end
  end
  if left == 0 then
    return nil
  end
  -- What is left depends on a cycle or is on one; going up from anywhere ends on one.
  local function least(ids)
    local found
    for id in pairs(ids) do
      found = (not found or id < found) and id or found
    end
    return found
  end
  local path, at, id = {}, {}, least(open)
  while not at[id] do
    path[#path + 1] = id
    at[id] = #path
    id = least(open[id].parents)
  end
  local on = {}
  for n = at[id], #path do
    on[path[n]] = true
  end
  return least(on)
end

-- The refusal of the group for a parent that is not there or for a cycle: the record's id and why.
local function judge_parents(group)
  local inside = false
  for _, draft in ipairs(group.drafts) do
    for _, edge in ipairs(draft.edges) do
      if group.fresh[edge[1]] then
        inside = true
      elseif not load(edge[1]) then
        return draft.spec[1], {'x', 'parent', edge[1]}
      end
    end
  end
  local id = inside and cycle_in(group)
  if id then
    return id, {'x', 'cycle', id}
  end
end

local function refuse(specs, id, refusal)
  local answers, told = {}, false
  for n, spec in ipairs(specs) do
    if load(spec[1]) then
      answers[n] = {'d', spec[1]}
    elseif spec[1] == id and not told then
      answers[n], told = refusal, true
    else
      answers[n] = {'x', 'group', ''}
    end
  end
  return answers
end

local function replace(target)
  local row = target.row
  row.u, row.delay, row.more = target.unique, target.delay, true
  local fields = {'u', target.unique_from}
  if target.payload_from then
    fields[3], fields[4] = 'p', target.payload_from
  end
  call('HSET', key_of(row.id), unpack(fields))
  touch(row)
  if row.due ~= target.due then
    line_up_anew(row, target.due)
  end
end

-- Let parents know that they have children, and let the ends of those that ended before take effect on new
-- tasks, in the order of their edges. What ends by that takes effect on the others by `spread`, and once.
local function meet_parents(placed)
  local met = {}
  for _, row in ipairs(placed) do
    for _, edge in ipairs(edges_of(row)) do
      local parent = load(edge[1])
      if not parent.kids then
        parent.kids = true
        touch(parent)
      end
      if TERMINAL[parent.state] then
        met[#met + 1] = {row, parent, edge[2]}
      end
    end
  end
  for _, each in ipairs(met) do
    local row, parent = each[1], each[2]
    if row.state == 'b' then
      local after = lift(row, parent.id, parent.state, each[3])
      if TERMINAL[after] and row.kids then
        spread(row.id, after)
      end
    end
  end
end

-- Judge a group, then store it or nothing of it. `bodies[first]` is the record of its first spec.
local function put_group(specs, bodies, first, most)
  local group = {fresh = {}, drafts = {}, keys = {}, replaced = {}, replacing = {}, waiting = {}}
  local answers, all_placed = {}, true
  for n, spec in ipairs(specs) do
    local answer = judge(group, spec, bodies[first + n - 1], most)
    if answer ~= 1 then
      all_placed = false
      if answer[1] == 'x' then
        return refuse(specs, spec[1], answer)
      end
    end
    answers[n] = answer
  end
  local id, refusal = judge_parents(group)
  if id then
    return refuse(specs, id, refusal)
  end
  for _, target in ipairs(group.replacing) do
    replace(target)
  end
  local placed = {}
  for n, draft in ipairs(group.drafts) do
    placed[n] = place(draft)
  end
  meet_parents(placed)
  return all_placed and 1 or answers
end
