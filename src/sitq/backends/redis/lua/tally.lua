-- tally: count tasks by queue and state.
--
-- uses     clock base
-- flags    no-writes
-- answers  Fields of a state's letter and a queue, and how many tasks there are.

if not is_whole() then
  return refuse_broken()
end
return call('HGETALL', prefix .. 'tally')
