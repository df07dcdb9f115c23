-- Changes: how each kind of move is carried out. False if its condition does not hold; then nothing is changed.

local most_payload = tonumber(ARGV[2])

local function runs_under(row, token)
  return row.state == 'r' and row.token == token
end

-- Whether the record shows that the very same word of the same attempt has taken effect before.
local function already_said(row, token, state, packed)
  if not token or row.token ~= token or row.state ~= state then
    return false
  end
  local held = (row.errors or 0) > 0 and call('HGET', key_of(row.id), 'e') or ''
  local at = 0
  while at >= 0 and at < #held do
    local behind, past = cmsgpack.unpack_one(held, at)
    local one = behind > 0 and sub(held, at + 1, behind) or sub(held, at + 1)
    if past[1] == 'crashed' and past[5] == row.attempt and one ~= packed then
      return false
    end
    at = behind
  end
  return true
end

local function follow(list)
  for _, each in ipairs(list or {}) do
    put_group({each[1]}, ARGV, each[2], most_payload)
  end
end

local CHANGES = {}

-- {"settle", id, token, state, result, failure, follow}
function CHANGES.settle(row, move)
  local token, packed = move[3], move[6] and ARGV[move[6]]
  if not token then
    if row.state ~= 'b' and row.state ~= 'q' then
      return false
    end
  elseif not runs_under(row, token) then
    return already_said(row, token, move[4], packed)
  end
  if move[5] then
    call('HSET', key_of(row.id), 'r', ARGV[move[5]])
    row.more = true
  else
    call('HDEL', key_of(row.id), 'r')
  end
  finish_task(row, move[4], packed)
  follow(move[7])
  return true
end

-- {"retry" or "release", id, token, delay, freeze, failure, follow, crashes, alone}
local function hand_back(row, move)
  local token, packed = move[3], move[6] and ARGV[move[6]]
  if not runs_under(row, token) then
    return already_said(row, token, 'q', packed)
  end
  if move[1] == 'retry' then
    row.failures = (row.failures or 0) + 1
    row.crashes, row.alone = nil, nil
  else
    row.alone = move[9] or nil
    if move[8] then
      row.crashes = move[8]
    end
  end
  if packed then
    add_error(row, packed)
  end
  if move[5] then
    freeze(move[5], now + move[4])
  end
  if row.stop then
    end_stopped(row)
  else
    requeue(row, now + move[4])
  end
  follow(move[7])
  return true
end
CHANGES.retry, CHANGES.release = hand_back, hand_back

-- {"note", id, token, progress, step's name, step's value, alone}
function CHANGES.note(row, move)
  if not runs_under(row, move[3]) then
    return false
  end
  if move[4] then
    add_packed(row, 'g', 'notes', PROGRESS_KEPT, ARGV[move[4]])
    hint('task/' .. row.id)
  end
  if move[5] then
    call('HSETNX', key_of(row.id), 's:' .. move[5], ARGV[move[6]])
    row.more = true
  end
  if move[7] then
    row.alone = move[7]
  end
  touch(row)
  return true
end

-- {"lapse", id, token}
function CHANGES.lapse(row, move)
  if not runs_under(row, move[3]) then
    return false
  end
  if now < row.lease then
    row.lease = now
    pend('lease', number16(row.seq) .. row.id, now)
    touch(row)
  end
  hint('queue/' .. queue_of(row))
  return true
end

-- {"cancel", id, reason, whether running ones are asked}
function CHANGES.cancel(row, move)
  if row.state == 'b' or row.state == 'q' then
    if row.milestone then
      return false
    end
    finish_task(row, 'x', failure('cancelled', move[3] ~= '' and move[3] or 'cancelled', row.attempt))
    return true
  elseif row.state ~= 'r' or not move[4] then
    return false
  end
  if not row.stop then
    row.stop = move[3] ~= '' and move[3] or 'cancelled'
    touch(row)
  end
  if row.owner then
    hint('worker/' .. row.owner)
  end
  return true
end

-- {"change", id, due, delay, priority, queue}
function CHANGES.change(row, move)
  if row.state ~= 'b' and row.state ~= 'q' then
    return false
  end
  if move[5] then
    reorder(row, move[5])
  end
  if move[3] or move[4] then
    line_up_anew(row, math.max(move[3] or 0, now) + (move[4] or 0))
  end
  if move[6] and move[6] ~= queue_of(row) then
    send(row, move[6])
  end
  return true
end

-- {"delete", id, end or false, states or false}
function CHANGES.delete(row, move)
  if row.state == 'r' then
    return false
  end
  if move[4] and not string.find(move[4], row.state, 1, true) then
    return false
  end
  if not move[3] and row.kids and under('children', net(row.id), 1)[1] then
    return false
  end
  remove(row, move[3])
  return true
end

-- {"bury", id, token, failure}: the record of a claimed task cannot be read.
function CHANGES.bury(row, move)
  if not runs_under(row, move[3]) then
    return false
  end
  finish_task(row, 'd', ARGV[move[4]])
  tell_own_end(row)
  return true
end

local function carry_out(move)
  if move[1] == 'restore' then
    return restore(move, most_payload)
  end
  local row = load(move[2])
  return row and CHANGES[move[1]](row, move) or false
end
