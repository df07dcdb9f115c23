-- Plain tasks go in on a way of their own: new ones that are due, and wait for nothing and nobody. If all are
-- plain, the script ends here, before it has made the functions that the others need: those cost it more time
-- than all that it does for a task.

local groups, most_payload = cmsgpack.unpack(ARGV[3]), tonumber(ARGV[2])

do
  local NEEDS = {'all', 'meta', 'order', 'places', 'queues', 'tally', 'whole'} -- of the indexes

  -- How long a record is kept needs no care.
  local function is_plain(spec)
    if spec[5] > most_payload or spec[4] > now then
      return false
    elseif spec[7] then
      for name in pairs(spec[7]) do
        if name ~= 'keep' and name ~= 'keepf' then
          return false
        end
      end
    end
    return true
  end

  -- The specs in order; nil if one of them is not plain or may be stored already.
  local function plain_specs()
    local specs, keys, seen = {}, {}, {}
    for _, group in ipairs(groups) do
      for _, spec in ipairs(group) do
        if seen[spec[1]] or not is_plain(spec) then
          return nil
        end
        seen[spec[1]] = true
        specs[#specs + 1] = spec
        keys[#keys + 1] = prefix .. 't:' .. spec[1]
      end
    end
    for first = 1, #keys, 1000 do
      if call('EXISTS', unpack(keys, first, math.min(first + 999, #keys))) > 0 then
        return nil
      end
    end
    return specs
  end

  -- The lanes of tasks, each with its place in `order` if it has one; nil if one needs care: it waits for a
  -- hold, or is not where it says that it is.
  local function plain_lanes(specs)
    local lanes = {}
    for _, spec in ipairs(specs) do
      local name = spec[2]
      if not lanes[name] then
        local member = call('HGET', prefix .. 'places', name)
        if (member and 1 or 0) ~= call('EXISTS', prefix .. 'ready:' .. name) or (member and sub(member, 1, 1) ~= 'p') then
          return nil
        end
        local best = member and tonumber(sub(member, -17, -2)) or math.huge
        lanes[name] = {queue = part(name, 1), member = member, first = best, best = best, ready = {}, tasks = 0}
      end
    end
    return lanes
  end

  local function store(specs, lanes)
    local seq = call('HINCRBY', prefix .. 'meta', 'sequence', #specs) - #specs
    local all = {}
    for n, spec in ipairs(specs) do
      seq = seq + 1
      local lane, more, rank = lanes[spec[2]], spec[7], (4096 - spec[3]) * 1099511627776 + seq
      call('HSET', prefix .. 't:' .. spec[1], 'b', ARGV[n + 3], 'w', pack({
        seq = seq, lane = spec[2], state = 'q', priority = spec[3], due = now, created = now,
        keep = more and more.keep, keepf = more and more.keepf, reply = spec[6] or nil,
      }))
      local place = 2 * lane.tasks
      lane.tasks = lane.tasks + 1
      lane.ready[place + 1], lane.ready[place + 2] = rank, spec[1]
      if rank < lane.best then
        lane.best = rank
      end
      all[2 * n - 1], all[2 * n] = seq, spec[1]
    end
    in_runs('ZADD', 'all', all)
    for name, lane in pairs(lanes) do
      in_runs('ZADD', 'ready:' .. name, lane.ready)
      if lane.best < lane.first then
        if lane.member then
          call('ZREM', prefix .. 'order', lane.member)
        end
        local member = 'p' .. sub(name, 1, -2) .. number16(lane.best) .. '-'
        call('ZADD', prefix .. 'order', 0, member)
        call('HSET', prefix .. 'places', name, member)
      end
      know_queue(lane.queue)
      count(lane.queue, 'q', lane.tasks)
      hint('queue/' .. lane.queue)
    end
    write_counts()
    tell_hints()
  end

  local specs = are_there(NEEDS) and plain_specs()
  local lanes = specs and plain_lanes(specs)
  if lanes then
    store(specs, lanes)
    return {1, own_ends}
  end
end
