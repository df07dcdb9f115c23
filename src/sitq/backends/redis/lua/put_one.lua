-- put_one: store one new plain task, as most are: it is due, has no key and no limits, and waits for nothing.
--
-- uses     clock
-- ARGV[2]  Its id.
-- ARGV[3]  Its lane, and ARGV[4] the queue of that.
-- ARGV[5]  Its rank, without its sequence.
-- ARGV[6]  What the row begins with, packed: all that is known of it; the number of its fields fits that.
-- ARGV[7]  The packed record.
-- answers  1; or 0: nothing was done, as this needs the care of `put`.

local id, lane, queue, weight = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local task, ready = prefix .. 't:' .. id, prefix .. 'ready:' .. lane
local all, meta, order, places = prefix .. 'all', prefix .. 'meta', prefix .. 'order', prefix .. 'places'
local queues, tally = prefix .. 'queues', prefix .. 'tally'

if call('EXISTS', all, meta, order, places, queues, tally, prefix .. 'whole') < 7 or call('EXISTS', task) == 1 then
  return 0
end
local place = call('HGET', places, lane)
local is_first = true
if place then
  local rank = tonumber(sub(place, -17, -2))
  is_first = weight < rank - rank % 1099511627776
  if sub(place, 1, 1) ~= 'p' then -- it waits for a hold
    return 0
  end
end
if is_first and (place and 1 or 0) ~= call('EXISTS', ready) then -- an index is not what it was
  return 0
end

local seq = call('HINCRBY', meta, 'sequence', 1)
call('HSET', task, 'b', ARGV[7], 'w', ARGV[6] .. pack('seq', seq, 'due', now, 'created', now))
call('ZADD', all, seq, id)
call('ZADD', ready, weight + seq, id)
call('HINCRBY', tally, 'q' .. queue, 1)
if is_first then
  local member = 'p' .. sub(lane, 1, -2) .. format('%016.0f', weight + seq) .. '-'
  if place then
    call('ZREM', order, place)
  elseif not call('ZSCORE', queues, queue) then
    call('ZADD', queues, call('HINCRBY', meta, 'queues', 1), queue)
  end
  call('ZADD', order, 0, member)
  call('HSET', places, lane, member)
end
call('PUBLISH', prefix .. 'queue/' .. queue, '')
return 1
