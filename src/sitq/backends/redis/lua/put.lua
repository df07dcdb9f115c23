-- put: store groups of new tasks, each whole or not at all.
--
-- uses     clock base plain_put rows cells lanes meters steps admission
-- ARGV[2]  The largest payload in bytes.
-- ARGV[3]  The specs by group, packed.
-- ARGV[4…] The packed records, one for each spec, in order.
-- answers  1 if all of all groups were placed, else the answers by group, packed: 1 if all of it were placed,
--          else one for each record: 1, {"d", id}, {"r", id} or {"x", why, detail}; then the ids of tasks that
--          the store itself let end.

if not is_whole() then
  return refuse_broken()
end
local first, answers = 4, {}
for n, specs in ipairs(groups) do
  answers[n] = put_group(specs, ARGV, first, most_payload)
  first = first + #specs
end
finish()
return {pack(answers), own_ends}
