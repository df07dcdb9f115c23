-- tend: bounded upkeep.
--
-- uses     clock base rows cells lanes meters steps upkeep
-- flags    allow-oom
-- ARGV[2]  When it was sent, by this clock, as far as the client knows; 0 if it does not.
-- ARGV[3]  The most tasks.
-- answers  How many tasks it did; the ids of those that the store itself let end.

local HELD_UP = 2000000 -- whoever waited so long takes no leases: their holders may have waited, too

if not is_whole() then
  return refuse_broken()
end
local asked, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local done = 0
if asked == 0 or now - asked <= HELD_UP then
  done = reclaim(most)
end
local queues = call('ZRANGE', prefix .. 'queues', 0, -1)
for _, queue in ipairs(queues) do
  if queue ~= '' then
    done = done + expire(queue, most - done)
  end
end
write_lanes()
write_pending()
if done < most then
  done = done + purge(most - done)
end
finish()

-- Forget what no task needs any more: cells past their time, keys that nobody names, turns of queues at rest.
local step = call('HSCAN', prefix .. 'cells', call('HGET', prefix .. 'meta', 'cell') or '0', 'COUNT', 100)
call('HSET', prefix .. 'meta', 'cell', step[1])
for n = 1, #step[2], 2 do
  if not live_cell(step[2][n]) then
    drop_cell(step[2][n])
  end
end
local idle = call('ZRANGEBYSCORE', prefix .. 'idle', '-inf', format('%.0f', now), 'LIMIT', 0, 1000)
for _, field in ipairs(idle) do
  local meter = meter_of(field)
  if meter.uses == 0 and meter.arrival <= now and meter.frozen <= now then
    call('HDEL', prefix .. 'meters', field)
    meters[field] = nil
  end
end
in_runs('ZREM', 'idle', idle)
for _, queue in ipairs(queues) do
  if queue ~= '' and count_of(queue, 'b') + count_of(queue, 'q') + count_of(queue, 'r') == 0 then
    call('DEL', prefix .. 'turns:' .. queue)
    local ended = 0
    for state in pairs(TERMINAL) do
      ended = ended + count_of(queue, state)
    end
    if ended == 0 then
      call('ZREM', prefix .. 'queues', queue)
    end
  end
end
return {done, own_ends}
