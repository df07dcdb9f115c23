-- apply: carry out moves in order, each under its condition.
--
-- uses     clock base cells plain_apply rows lanes meters steps admission restoring changes
-- flags    allow-oom
-- ARGV[2]  The largest payload in bytes.
-- ARGV[3]  The moves, packed: {kind, id, token or false, …}, as changes.lua tells of each kind. Where a move
--          has bytes that Lua cannot read, it has their place among the arguments instead.
-- ARGV[4…] Those bytes.
-- answers  For each move 1, kept, or 0, lost; or only 1 if all of them were kept. Then the ids of tasks that the
--          store itself let end.

if not is_whole() then
  return refuse_broken()
end
local answers = {}
for n, move in ipairs(moves) do
  answers[n] = carry_out(move) and 1 or 0
end
finish()
return {answers, own_ends}
