-- read: read entries of a log, oldest first.
--
-- uses     clock base
-- flags    no-writes
-- ARGV[2]  The topic.
-- ARGV[3]  Only entries with numbers above this one.
-- ARGV[4]  At most so many.
-- answers  The number of the first one, then the entries, each with its instant in front.

local log = prefix .. 'log:' .. ARGV[2]
local held = call('HGET', prefix .. 'logs', ARGV[2])
if not held then
  return {0, {}}
end
local last = tonumber(sub(held, 1, string.find(held, ':', 1, true) - 1))
local first = last - call('LLEN', log) + 1
local start = math.max(0, tonumber(ARGV[3]) + 1 - first)
return {first + start, call('LRANGE', log, start, start + tonumber(ARGV[4]) - 1)}
