-- append: add entries to a log, which keeps its newest ones.
--
-- uses     clock base
-- ARGV[2]  The id of this call: said again, it does nothing.
-- ARGV[3]  The topic.
-- ARGV[4]  How many entries are kept.
-- ARGV[5…] The entries.
--
-- `log:<topic>` has the entries, each with its instant in front; `logs` has by topic the number of the newest
-- one and the call that added it.

local log, most = prefix .. 'log:' .. ARGV[3], tonumber(ARGV[4])
local held = call('HGET', prefix .. 'logs', ARGV[3]) or '0:'
local colon = string.find(held, ':', 1, true)
if sub(held, colon + 1) == ARGV[2] or #ARGV < 5 then
  return 0
end
for n = 5, #ARGV do
  call('RPUSH', log, format('%.0f', now) .. ':' .. ARGV[n])
end
if most > 0 then
  call('LTRIM', log, -most, -1)
else
  call('DEL', log)
end
call('HSET', prefix .. 'logs', ARGV[3], format('%.0f', tonumber(sub(held, 1, colon - 1)) + #ARGV - 4) .. ':' .. ARGV[2])
hint('log/' .. ARGV[3])
tell_hints()
return 1
