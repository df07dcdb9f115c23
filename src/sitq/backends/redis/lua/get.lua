-- get: read tasks by id.
--
-- uses     clock base
-- flags    no-writes
-- ARGV[2…] The ids.
-- answers  For each the fields of its hash and their values, or nothing.

local answers = {}
for n = 2, #ARGV do
  answers[n - 1] = call('HGETALL', prefix .. 't:' .. ARGV[n])
end
return answers
