-- Steps from one state to the next, which keep rows and indexes in agreement.

local spread -- as ends bring about other ends

local function release_key(row)
  if row.u and call('HGET', prefix .. 'unique', 'k' .. row.u[1]) == row.id then
    call('HDEL', prefix .. 'unique', 'k' .. row.u[1])
  end
end

-- When a record may be purged; one that holds a key for a time, not before that is over.
local function purge_at(row)
  local at = row.kept or 0
  if row.u and row.u[2] == 'window' and call('HGET', prefix .. 'unique', 'k' .. row.u[1]) == row.id then
    return math.max(at, row.created + row.u[3])
  end
  return at
end

local function claim_member(row)
  return net(row.token) .. row.id
end

local function numbered(row)
  return number16(row.seq) .. row.id
end

-- Take a task out of what its state means, before it gets another.
local function leave(row)
  local lane = lane_of(row.lane)
  count(lane.queue, row.state, -1)
  if row.state == 'r' then
    pend('lease', numbered(row), false)
    pend('claims', claim_member(row), false)
    row.owner, row.lease, row.stop = nil, nil, nil
    if are_cells('limit/queue/') then
      hint('queue/' .. lane.queue)
    end
    free(lane)
  elseif row.state == 'q' then
    fall_out(row)
  else
    row.parents, row.unarmed = nil, nil
  end
  touch(row)
end

local function queue_first(row)
  row.state = 'q'
  row.due = math.max(row.due, now) + (row.delay or 0)
  row.delay = nil
  if row.ttl then
    row.expires = row.due + row.ttl
  end
  local queue = queue_of(row)
  count(queue, 'q', 1)
  line_up(row)
  hint('queue/' .. queue)
end

local function child_member(parent, row, effects)
  return net(parent) .. number16(row.seq) .. effects .. row.id
end

-- Forget what only a task that has not ended counts for: its limit keys, its edges.
local function forget_ties(row)
  drop_uses(lane_of(row.lane))
  for _, edge in ipairs(edges_of(row)) do
    local parent = edge[1]
    call('ZREM', prefix .. 'children', child_member(parent, row, edge[2]))
    local freed_row = load(parent)
    if freed_row and TERMINAL[freed_row.state] and not under('children', net(parent), 1)[1] then
      pend('keep', numbered(freed_row), purge_at(freed_row))
    end
  end
end

local function hint_end(row)
  hint('done')
  if row.reply then
    hint(row.reply)
  end
end

local function end_alone(row, state, packed)
  leave(row)
  row.state, row.finished = state, now
  if state == 'f' or state == 'd' then
    row.kept = now + (row.keepf or 30 * DAY)
  else
    row.kept = now + (row.keep or DAY)
  end
  if packed then
    add_error(row, packed)
  end
  count(queue_of(row), state, 1)
  pend('keep', numbered(row), purge_at(row))
  if row.u and row.u[2] ~= 'window' then
    release_key(row)
  end
  forget_ties(row)
  hint_end(row)
end

-- Let a task end, and its end take effect on those that depend on it.
local function finish_task(row, state, packed)
  end_alone(row, state, packed)
  if row.kids then
    spread(row.id, state)
  end
end

local function tell_own_end(row)
  own_ends[#own_ends + 1] = row.id
end

-- Let a parent's end take effect on a blocked child; the child's state after it.
local function lift(row, parent, state, effects)
  local place = TERMINAL[state]
  row.ends = row.ends or {0, 0, 0, 0, 0}
  row.ends[place] = row.ends[place] + 1
  row.parents = row.parents - 1
  touch(row)
  local effect = sub(effects, place, place)
  if effect == 'c' or effect == 'f' then
    local message = 'task ' .. parent .. ', which it depends on, ended as ' .. STATE_NAMES[state]
    end_alone(row, effect == 'c' and 'x' or 'f', failure('dependency', message))
  else
    if effect == 'a' then
      row.unarmed = nil
    end
    if row.parents > 0 then
      return 'b'
    elseif row.unarmed then
      end_alone(row, 'x', failure('dependency', 'no task that it depends on ended so that it was wanted'))
    elseif row.milestone then
      end_alone(row, 'c')
    else
      leave(row)
      queue_first(row)
    end
  end
  if TERMINAL[row.state] then
    tell_own_end(row)
  end
  return row.state
end

function spread(parent, state)
  local ended = {{parent, state}}
  local at = 1
  while ended[at] do
    parent, state = ended[at][1], ended[at][2]
    local base = net(parent)
    for _, member in ipairs(under('children', base)) do
      local child = load(sub(member, #base + 22))
      if child and child.state == 'b' then
        local after = lift(child, parent, state, sub(member, #base + 17, #base + 21))
        if TERMINAL[after] and child.kids then
          ended[#ended + 1] = {child.id, after}
        end
      end
    end
    at = at + 1
  end
end

-- Let a running task wait again; it takes a `waiting` unique key back if nobody has it.
local function requeue(row, due)
  leave(row)
  row.state, row.due = 'q', due
  local queue = queue_of(row)
  count(queue, 'q', 1)
  line_up(row)
  hint('queue/' .. queue)
  if row.u and row.u[2] == 'waiting' and not key_holder(row.u[1]) then
    call('HSET', prefix .. 'unique', 'k' .. row.u[1], row.id)
  end
end

-- Cancel a running task that was asked to stop.
local function end_stopped(row)
  finish_task(row, 'x', failure('cancelled', row.stop, row.attempt))
  tell_own_end(row)
end

-- Give a waiting task another due time; its ttl counts from there, if it was never started.
local function line_up_anew(row, due)
  if row.state ~= 'q' then
    row.due = due
    return touch(row)
  end
  fall_out(row)
  row.due = due
  if (row.attempt or 0) == 0 and row.ttl then
    row.expires = due + row.ttl
  end
  line_up(row)
  touch(row)
  hint('queue/' .. queue_of(row))
end

local function reorder(row, priority)
  if row.state ~= 'q' then
    row.priority = priority
    return touch(row)
  end
  fall_out(row)
  row.priority = priority
  line_up(row)
  touch(row)
  hint('queue/' .. queue_of(row))
end

-- Let a waiting task wait in another queue, in the lane there that is like its own.
local function send(row, queue)
  local lane = lane_of(row.lane)
  count(lane.queue, row.state, -1)
  count(queue, row.state, 1)
  know_queue(queue)
  if row.state == 'q' then
    fall_out(row)
  end
  row.lane, row.moved = net(queue) .. sub(lane.name, #net(lane.queue) + 1), true
  if row.state == 'q' then
    line_up(row)
    hint('queue/' .. queue)
  end
  touch(row)
end

-- Forget a task that does not run. `as`: as what its end counts for those that wait for it, or nil.
local function remove(row, as)
  local ended = TERMINAL[row.state]
  if ended then
    count(queue_of(row), row.state, -1)
    pend('keep', numbered(row), false)
  else
    leave(row)
    forget_ties(row)
    hint_end(row)
  end
  release_key(row)
  pend('all', row.id, false)
  for _, edge in ipairs(edges_of(row)) do
    call('ZREM', prefix .. 'offspring', net(edge[1]) .. numbered(row))
  end
  if row.kids then
    in_runs('ZREM', 'offspring', under('offspring', net(row.id)))
  end
  forget_row(row)
  if row.kids then
    if as and not ended then
      spread(row.id, as)
    end
    in_runs('ZREM', 'children', under('children', net(row.id)))
  end
end

-- Write all that the script has changed, and tell of it.
local function finish()
  write_lanes()
  write_freed()
  write_rows()
  write_turns()
  write_meters()
  write_pending()
  write_counts()
  if is_broken then
    call('UNLINK', prefix .. 'order')
  end
  tell_hints()
end
