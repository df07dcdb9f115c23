-- Cells: small named values. `cells` has, by name, until when each is there (0: for good), the id of the call
-- that wrote it, and its value; `cellnames` has the names in order, and is made anew when it does not fit.

local names_fit = false

local function fit_names()
  if names_fit then
    return
  end
  names_fit = true
  if call('HLEN', prefix .. 'cells') ~= call('ZCARD', prefix .. 'cellnames') then
    call('DEL', prefix .. 'cellnames')
    for _, name in ipairs(call('HKEYS', prefix .. 'cells')) do
      call('ZADD', prefix .. 'cellnames', 0, name)
    end
  end
end

-- What a cell holds, until when, and which call wrote it; nil if it is not there any more.
local function live_cell(name)
  local held = call('HGET', prefix .. 'cells', name)
  if not held then
    return nil
  end
  local one = string.find(held, ':', 1, true)
  local other = string.find(held, ':', one + 1, true)
  local until_ = tonumber(sub(held, 1, one - 1))
  if until_ > 0 and until_ <= now then
    return nil
  end
  return sub(held, other + 1), until_, sub(held, one + 1, other - 1)
end

local function drop_cell(name)
  call('HDEL', prefix .. 'cells', name)
  call('ZREM', prefix .. 'cellnames', name)
end

local any_cells
local some_cells = {}

-- Whether there is any cell under a prefix.
local function are_cells(under_)
  if some_cells[under_] == nil then
    if any_cells == nil then
      any_cells = call('EXISTS', prefix .. 'cells') == 1
    end
    some_cells[under_] = false
    if any_cells then
      fit_names()
      some_cells[under_] = under('cellnames', under_, 1)[1] ~= nil
    end
  end
  return some_cells[under_]
end

-- When the pause of this name ends: 0 if there is none, NEVER if only news can end it.
local function pause_end(name)
  if not are_cells('pause/') then
    return 0
  end
  local value, until_ = live_cell(name)
  if not value then
    return 0
  end
  return until_ == 0 and NEVER or until_
end
