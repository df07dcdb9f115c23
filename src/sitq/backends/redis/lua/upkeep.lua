-- Upkeep: what time alone does to tasks, each by a bounded amount.

local function reclaim(most)
  local members = call('ZRANGEBYSCORE', prefix .. 'lease', '-inf', format('%.0f', now), 'LIMIT', 0, most)
  local done = 0
  for _, member in ipairs(members) do
    local row = load(sub(member, 17))
    if row and row.state == 'r' and row.lease > now then
      pend('lease', member, row.lease) -- it was renewed while the indexes were made anew
    elseif row and row.state == 'r' then
      done = done + 1
      if row.stop then
        end_stopped(row)
      else
        row.crashes = (row.crashes or 0) + 1
        local message = 'the lease of attempt ' .. format('%.0f', row.attempt)
          .. ' ran out: its worker died, hung or lost the store'
        add_error(row, failure('crashed', message, row.attempt, row.owner))
        requeue(row, now)
      end
    else
      pend('lease', member, false)
      is_broken = true
    end
  end
  return done
end

local function expire_one(row)
  local late = format('%.3f', (now - (last_start(row) or now)) / 1000000)
  finish_task(row, 'e', failure('expired', 'not started in time: its last start was ' .. late .. ' s ago'))
  tell_own_end(row)
end

-- Let queued tasks of a queue end that are past their last start.
local function expire(queue, most)
  local base, done = net(queue), 0
  if most <= 0 then
    return 0
  end
  local late = call('ZRANGEBYLEX', prefix .. 'late', '[' .. base, '[' .. base .. instant18(now) .. '\255', 'LIMIT', 0, most)
  for _, member in ipairs(late) do
    local row = load(sub(member, #base + 35))
    if row and row.state == 'q' then
      expire_one(row)
      done = done + 1
    else
      call('ZREM', prefix .. 'late', member)
      is_broken = true
    end
  end
  return done
end

-- Forget terminal tasks that are past their time, needed by nobody, and hold no unique key.
local function purge(most)
  local done, looked = 0, 0
  while done < most and looked < 10 * most + 100 do
    local members = call('ZRANGEBYSCORE', prefix .. 'keep', '-inf', format('%.0f', now), 'LIMIT', 0, most - done)
    if #members == 0 then
      break
    end
    looked = looked + #members
    for _, member in ipairs(members) do
      local row = load(sub(member, 17))
      if not row or not TERMINAL[row.state] then
        pend('keep', member, false)
        is_broken = is_broken or row and true
      elseif row.kids and under('children', net(row.id), 1)[1] then
        pend('keep', member, false) -- it comes back when the last of its children ends
      elseif purge_at(row) > now then
        pend('keep', member, purge_at(row))
      else
        remove(row)
        done = done + 1
      end
    end
    write_pending()
  end
  return done
end
