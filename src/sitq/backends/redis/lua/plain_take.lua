-- A plain claim: nothing holds anything up, and the ready tasks of the queues that are asked for are in one
-- lane, or there are none. Then the script ends here, as with plain tasks that go in.

local asked_for = cmsgpack.unpack(ARGV[3]) -- {claim, worker, {{queue, most}, …}, limit, lease, python, {left, …}, reclaim}

do
  local token, limit, reclaim = asked_for[1], asked_for[4], asked_for[8]
  local next_at = NEVER

  local function soonest(at)
    next_at = math.min(next_at, at)
  end

  -- Whether an index has nothing but the member that stays: to count is cheaper than to look.
  local function is_empty(key)
    return call('ZCARD', prefix .. key) == 1
  end

  -- When the first member of a queue in a set that is ordered by instants has its instant; NEVER if there is none.
  local function first_instant(key, base)
    local member = not is_empty(key) and under(key, base, 1)[1]
    return member and tonumber(sub(member, #base + 1, #base + 18)) or NEVER
  end

  -- Whether only the order of ready tasks decides about the start of a queue's.
  local function is_quiet(base)
    local due, mark = first_instant('due', base), first_instant('marks', base)
    soonest(due)
    soonest(mark)
    return due > now and mark > now and first_instant('late', base) > now
  end

  -- The only lane of all queues: {queue, base, entry in `order`}. False if there is none, nil if there are more.
  local function only_lane()
    local found, lanes = false, call('ZCARD', prefix .. 'order') - 1
    for _, share in ipairs(asked_for[3]) do
      local base = net(share[1])
      if not is_quiet(base) then
        return nil
      end
      local members = lanes > 0 and under('order', 'p' .. base, 2) or NOTHING
      if members[2] or (members[1] and found) then
        return nil
      elseif lanes > #members and under('order', 'f' .. base, 1)[1] then -- those of tenants take turns
        return nil
      elseif members[1] then
        found = {queue = share[1], base = base, member = members[1]}
      end
    end
    return found
  end

  -- The name of the lane, without its rank; nil if its tasks may not start here or have keys.
  local function name_of(lane)
    local task, python, at
    task, at = part(lane.member, #lane.base + 2)
    python, at = part(lane.member, at)
    if sub(lane.member, at + 16) ~= '-' or (python ~= '' and python ~= asked_for[6]) then
      return nil
    end
    lane.rank = format('%.0f', tonumber(sub(lane.member, at, at + 15)))
    for _, name in ipairs(asked_for[7]) do
      if name == task then
        return nil
      end
    end
    return sub(lane.member, 2, at - 1) .. '-'
  end

  -- The rows and bodies of tasks; nil if one of them needs care.
  local function rows_of(heads, most)
    local rows, bodies = {}, {}
    for n = 1, most do
      local fields = call('HMGET', prefix .. 't:' .. heads[2 * n - 1], 'w', 'b')
      local ok, row = pcall(cmsgpack.unpack, fields[1] or '')
      if not ok or type(row) ~= 'table' or row.state ~= 'q' or row.expires or row.deadline then
        return nil
      end
      rows[n], bodies[n] = row, fields[2]
    end
    return rows, bodies
  end

  local function start(lane, heads, rows, bodies)
    local turns = prefix .. 'turns:' .. lane.queue
    local held = call('HMGET', turns, 's', 'n')
    local served, turn = tonumber(held[1] or 0), tonumber(held[2] or 0)
    local answer, leases, claims, until_ = {}, {}, {}, now + asked_for[5]
    for n, row in ipairs(rows) do
      local id = heads[2 * n - 1]
      row.state, row.attempt, row.token, row.owner = 'r', (row.attempt or 0) + 1, token, asked_for[2]
      row.lease, row.started = until_, now
      local packed = pack(row)
      call('HSET', prefix .. 't:' .. id, 'w', packed)
      leases[2 * n - 1], leases[2 * n] = until_, number16(row.seq) .. id
      claims[2 * n - 1], claims[2 * n] = 0, net(token) .. id
      answer[3 * n - 2], answer[3 * n - 1] = id, packed
      answer[3 * n] = row.more and call('HGETALL', prefix .. 't:' .. id) or bodies[n]
      served = math.max(turn, served)
      turn = served + 1000000
    end
    in_runs('ZADD', 'lease', leases)
    in_runs('ZADD', 'claims', claims)
    call('HSET', turns, 's', format('%.0f', served), 'n', format('%.0f', turn))
    count(lane.queue, 'q', -#rows)
    count(lane.queue, 'r', #rows)
    write_counts()
    soonest(until_)
    return answer
  end

  -- Let the lane be where its best task of those that are left belongs.
  local function move_lane(lane, name, number, rank)
    call('ZREMRANGEBYRANK', prefix .. 'ready:' .. name, 0, number - 1)
    call('ZREM', prefix .. 'order', lane.member)
    if rank then
      local member = 'p' .. sub(name, 1, -2) .. number16(tonumber(rank)) .. '-'
      call('ZADD', prefix .. 'order', 0, member)
      call('HSET', prefix .. 'places', name, member)
    else
      call('HDEL', prefix .. 'places', name)
    end
  end

  local function claim(lane)
    local name = name_of(lane)
    local heads = name and call('ZRANGE', prefix .. 'ready:' .. name, 0, limit, 'WITHSCORES') or {}
    local most = math.min(#heads / 2, limit)
    if most == 0 or heads[2] ~= lane.rank then -- the latter if the ready tasks were lost, and others came since
      return nil
    end
    local rows, bodies = rows_of(heads, most)
    if not rows then
      return nil
    end
    local answer = start(lane, heads, rows, bodies)
    move_lane(lane, name, most, heads[2 * most + 2])
    return answer
  end

  local function take()
    local first = call('ZRANGE', prefix .. 'lease', 0, 0, 'WITHSCORES')[2]
    if reclaim then
      soonest(tonumber(first) or NEVER)
    end
    if limit < 1 or next_at <= now or (not is_empty('claims') and under('claims', net(token), 1)[1])
      or are_cells('pause/') or are_cells('limit/queue/') then
      return nil
    end
    local lane = only_lane()
    if lane == nil then
      return nil
    end
    return lane and claim(lane) or lane == false and {}
  end

  local answer = is_whole() and take()
  if answer then
    if #answer == 3 * limit then
      next_at = now
    end
    return {now, next_at < NEVER and next_at or 0, own_ends, answer}
  end
end
