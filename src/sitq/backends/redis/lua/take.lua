-- take: claim tasks.
--
-- uses     clock base cells plain_take rows lanes meters steps upkeep claim
-- flags    allow-oom
-- ARGV[2]  When the claim was sent, by this clock, as far as the client knows; 0 if it does not.
-- ARGV[3]  The want, packed: {claim, worker, {{queue, most}, …}, limit, lease, python, {left, …}, reclaim}.
-- answers  Now; when more may become claimable, or 0; the ids of tasks that the store itself let end; and for
--          each task its id, its row, and its record or else all its fields and their values.

if not is_whole() then
  return refuse_broken()
end
read_want(asked_for, tonumber(ARGV[2]))
if runs_already() then
  return {now, now, own_ends, answer}
end
local again = run_claim()
finish()
return {now, again, own_ends, answer}
