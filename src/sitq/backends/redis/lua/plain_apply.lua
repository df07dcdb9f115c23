-- Plain ends go a way of their own: of tasks that completed with a result, and that nobody depends on, holds
-- up or replaces. If all moves are such ends, the script ends here, as with plain tasks that go in.

local moves = cmsgpack.unpack(ARGV[3])

do
  local lanes = {}

  -- The queue of a lane without limit keys; false if it has some.
  local function plain_queue(name)
    local queue = lanes[name]
    if queue == nil then
      local at, _
      queue, at = part(name, 1)
      for n = 1, 2 do
        _, at = part(name, at)
      end
      if sub(name, at, at) == 't' then
        _, at = part(name, at + 1)
      else
        at = at + 1
      end
      queue = at > #name and queue
      lanes[name] = queue
    end
    return queue
  end

  -- The rows of the tasks that end; nil if one of the moves is not plain.
  local function plain_rows()
    local found, seen = {}, {}
    for n, move in ipairs(moves) do
      local id = move[2]
      if move[1] ~= 'settle' or not move[3] or move[4] ~= 'c' or not move[5] or move[6] or move[7] or seen[id] then
        return nil
      end
      local packed = call('HGET', prefix .. 't:' .. id, 'w')
      local ok, row = pcall(cmsgpack.unpack, packed or '')
      if not ok or type(row) ~= 'table' or row.state ~= 'r' or row.token ~= move[3]
        or row.kids or row.tied or row.u or not plain_queue(row.lane) then
        return nil
      end
      seen[id], found[n] = true, row
    end
    return found
  end

  local function settle(found)
    local leases, claims, kept = {}, {}, {}
    for n, row in ipairs(found) do
      local move = moves[n]
      local id, queue, numbered = move[2], plain_queue(row.lane), number16(row.seq) .. move[2]
      leases[n], claims[n] = numbered, net(row.token) .. id
      row.state, row.finished, row.kept, row.more = 'c', now, now + (row.keep or DAY), true
      row.owner, row.lease, row.stop = nil, nil, nil
      kept[2 * n - 1], kept[2 * n] = row.kept, numbered
      call('HSET', prefix .. 't:' .. id, 'r', ARGV[move[5]], 'w', pack(row))
      count(queue, 'r', -1)
      count(queue, 'c', 1)
      if row.reply then
        hint(row.reply)
      end
    end
    in_runs('ZREM', 'lease', leases)
    in_runs('ZREM', 'claims', claims)
    in_runs('ZADD', 'keep', kept)
    write_counts()
    hint('done')
    tell_hints()
  end

  local found = is_whole() and not are_cells('limit/queue/') and plain_rows()
  if found then
    settle(found)
    return {1, own_ends}
  end
end
