-- swap: compare a cell and set it.
--
-- uses     clock base rows cells lanes
-- ARGV[2]  The id of this call: said again, it is answered as before.
-- ARGV[3]  The cell's name.
-- ARGV[4]  "1" and what it must hold, or "0": it must not be there.
-- ARGV[5]  "1" and what it is to hold, or "0": it is to be removed.
-- ARGV[6]  Microseconds until it vanishes by itself, or empty.
-- answers  1 if it held that, else 0.

local name, seen, value = ARGV[3], ARGV[4], ARGV[5]
if not is_whole() then
  return refuse_broken()
end
fit_names()
local held, _, by = live_cell(name)
if held and by == ARGV[2] then
  return 1
elseif (held and '1' .. held or '0') ~= seen then
  return 0
end
if value == '0' then
  drop_cell(name)
else
  local until_ = ARGV[6] ~= '' and format('%.0f', now + tonumber(ARGV[6])) or '0'
  call('HSET', prefix .. 'cells', name, until_ .. ':' .. ARGV[2] .. ':' .. sub(value, 2))
  call('ZADD', prefix .. 'cellnames', 0, name)
end
if sub(name, 1, 12) == 'pause/queue/' or sub(name, 1, 12) == 'limit/queue/' then
  hint('queue/' .. sub(name, 13))
elseif sub(name, 1, 6) == 'pause/' then
  if sub(name, 1, 10) == 'pause/key/' then
    for _, letter in ipairs({'k', 't'}) do
      local hold = letter .. sub(name, 11)
      for queue in pairs(queues_held(hold)) do
        set_mark(queue, hold, 0)
      end
    end
  end
  for _, queue in ipairs(call('ZRANGE', prefix .. 'queues', 0, -1)) do
    if queue ~= '' then
      hint('queue/' .. queue)
    end
  end
end
tell_hints()
return 1
