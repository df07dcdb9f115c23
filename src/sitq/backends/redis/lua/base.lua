-- What most scripts use: the indexes, texts in keys, and what a script changes and tells when it ends.

local NEVER = 253402300799000000
local DAY = 86400000000
local NOTHING = {}

-- What is derived from the records. Each of these keys exists as long as the store does, since it holds one
-- empty member; one that is missing was evicted or deleted, and then all are made anew from the records. The
-- last one, `whole`, has nothing else: it is not there until the others are.
local INDEXES = {
  'all', 'children', 'claims', 'due', 'idle', 'keep', 'late', 'lease', 'markat', 'marks', 'meta', 'meters',
  'offspring', 'order', 'places', 'queues', 'tally', 'unique', 'whole',
}

-- Whether some indexes are there.
local function are_there(names)
  local keys = {}
  for n, name in ipairs(names) do
    keys[n] = prefix .. name
  end
  return call('EXISTS', unpack(keys)) == #keys
end

local function is_whole()
  return are_there(INDEXES)
end

local function refuse_broken()
  return {err = 'SITQREBUILD an index is missing and is to be rebuilt from the records'}
end

-- Text that tells its own length, so that no such text begins another one.
local function net(text)
  return #text .. ':' .. text
end

-- What such a text at a place holds, and the place behind it.
local function part(text, at)
  local colon = string.find(text, ':', at, true)
  local stop = colon + tonumber(sub(text, at, colon - 1))
  return sub(text, colon + 1, stop), stop + 1
end

local function instant18(at)
  return format('%018.0f', at)
end

local function number16(number)
  return format('%016.0f', number)
end

-- Members of sorted sets that begin with a text: with equal scores they are in the order of their bytes.
-- No text in UTF-8 has the byte 255.
local function under(key, begin, most)
  if most then
    return call('ZRANGEBYLEX', prefix .. key, '[' .. begin, '[' .. begin .. '\255', 'LIMIT', 0, most)
  end
  return call('ZRANGEBYLEX', prefix .. key, '[' .. begin, '[' .. begin .. '\255')
end

-- -- what a script tells ------------------------------------------------------------------------------------

local topics, own_ends = {}, {}

local function hint(topic)
  topics[topic] = true
end

local function tell_hints()
  for topic in pairs(topics) do
    call('PUBLISH', prefix .. topic, '')
  end
  topics = {}
end

-- -- what a script changes in sorted sets ---------------------------------------------------------------------

local changes = {}

-- Let a member have a score when the script ends, or none (false). Nothing may read the set in between.
local function pend(key, member, score)
  local set = changes[key]
  if not set then
    set = {}
    changes[key] = set
  end
  set[member] = score
end

-- Lua hands over at most some thousand arguments at once.
local function in_runs(command, key, list)
  for first = 1, #list, 1000 do
    call(command, prefix .. key, unpack(list, first, math.min(first + 999, #list)))
  end
end

local function write_pending()
  for key, set in pairs(changes) do
    local gone, come = {}, {}
    for member, score in pairs(set) do
      if score then
        come[#come + 1] = format('%.0f', score)
        come[#come + 1] = member
      else
        gone[#gone + 1] = member
      end
    end
    in_runs('ZREM', key, gone)
    in_runs('ZADD', key, come)
  end
  changes = {}
end

-- -- counts -----------------------------------------------------------------------------------------------------

local counted, known_queues = {}, {}

local function count(queue, state, tasks)
  local field = state .. queue
  counted[field] = (counted[field] or 0) + tasks
end

local function count_of(queue, state)
  return tonumber(call('HGET', prefix .. 'tally', state .. queue) or 0) + (counted[state .. queue] or 0)
end

local function write_counts()
  for field, tasks in pairs(counted) do
    if tasks ~= 0 and call('HINCRBY', prefix .. 'tally', field, tasks) == 0 then
      call('HDEL', prefix .. 'tally', field)
    end
  end
  counted = {}
end

-- Queues have an order: that in which they were first used.
local function know_queue(queue)
  if not known_queues[queue] then
    known_queues[queue] = true
    if not call('ZSCORE', prefix .. 'queues', queue) then
      call('ZADD', prefix .. 'queues', call('HINCRBY', prefix .. 'meta', 'queues', 1), queue)
    end
  end
end
