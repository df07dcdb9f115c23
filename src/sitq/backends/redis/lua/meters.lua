-- Meters: what limit keys have used of their slots and rates.
--
-- `meters` has by "k" and key, or by "q" and queue for the queue's own limit, a map: slots, rate, per, burst,
-- seq (of the task whose figures hold), arrival (GCRA's theoretical arrival time), frozen, running, uses (by
-- tasks that have not ended), era (rebuilds that it has seen). `idle` has the keys that no task names.

local meters, touched_meters, freed, era = {}, {}, {}, nil

local function meter_of(field)
  local meter = meters[field]
  if not meter then
    local packed = call('HGET', prefix .. 'meters', field)
    meter = packed and cmsgpack.unpack(packed) or {arrival = 0, frozen = 0, running = 0, uses = 0, seq = 0}
    era = era or tonumber(call('HGET', prefix .. 'meta', 'era') or 0)
    if meter.era ~= era then -- the counts are from before a rebuild
      meter.era, meter.running, meter.uses = era, 0, 0
    end
    meters[field] = meter
  end
  return meter
end

local function touch_meter(field)
  touched_meters[field] = true
end

local function write_meters()
  for field in pairs(touched_meters) do
    local meter = meters[field]
    call('HSET', prefix .. 'meters', field, pack(meter))
    if meter.uses == 0 then
      call('ZADD', prefix .. 'idle', format('%.0f', math.max(meter.arrival, meter.frozen)), field)
    end
  end
  touched_meters = {}
end

local function interval_of(limit)
  local per = limit.per or 1000000
  return limit.rate and limit.rate > 0 and (per - per % limit.rate) / limit.rate or 0
end

-- From which instant on a meter lets the next task start; NEVER if only news can allow it.
local function opens(meter)
  if meter.slots and meter.running >= meter.slots then
    return NEVER
  elseif not meter.rate then
    return meter.frozen
  elseif meter.rate <= 0 then
    return NEVER
  end
  return math.max(meter.frozen, meter.arrival - ((meter.burst or 1) - 1) * interval_of(meter))
end

-- Count a start.
local function start_meter(field)
  local meter = meter_of(field)
  meter.running = meter.running + 1
  if meter.rate and meter.rate ~= 0 then
    meter.arrival = math.max(meter.arrival, now) + interval_of(meter)
  end
  touch_meter(field)
end

-- From which instant on a hold lets a lane start: "k" and a limit key, or "t" and a tenant.
local function hold_opens(hold)
  local at = pause_end('pause/key/' .. sub(hold, 2))
  if sub(hold, 1, 1) == 'k' then
    at = math.max(at, opens(meter_of(hold)))
  end
  return at
end

-- Take over the figures of a task's limits; the later ones of the same key hold.
local function adopt(limits, seq)
  local last = {}
  for _, limit in ipairs(limits) do
    last[limit[1]] = limit
  end
  for key, limit in pairs(last) do
    local field = 'k' .. key
    local meter = meter_of(field)
    meter.uses = meter.uses + 1
    if seq >= meter.seq then
      if meter.slots ~= limit[2] or meter.rate ~= limit[3] or meter.per ~= limit[4] or meter.burst ~= limit[5] then
        meter.slots, meter.rate, meter.per, meter.burst = limit[2], limit[3], limit[4], limit[5]
        freed[field] = true
      end
      meter.seq = seq
    end
    touch_meter(field)
  end
end

local function drop_uses(lane)
  for _, key in ipairs(lane.keys) do
    local meter = meter_of('k' .. key)
    meter.uses = meter.uses - 1
    touch_meter('k' .. key)
  end
end

-- Count a task out that runs no more.
local function free(lane)
  for _, key in ipairs(lane.keys) do
    local meter = meter_of('k' .. key)
    meter.running = meter.running - 1
    touch_meter('k' .. key)
    freed['k' .. key] = true
  end
end

local function freeze(key, until_)
  local meter = meter_of('k' .. key)
  meter.frozen = math.max(meter.frozen, until_)
  touch_meter('k' .. key)
end

-- Say that holds may let lanes start, and wake the queues that have some.
local function write_freed()
  for hold in pairs(freed) do
    for queue in pairs(queues_held(hold)) do
      set_mark(queue, hold, hold_opens(hold))
      hint('queue/' .. queue)
    end
  end
  freed = {}
end
