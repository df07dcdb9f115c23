-- cells_under: read cells whose name begins with a text.
--
-- uses     clock base cells
-- ARGV[2]  The text.
-- answers  Name, until when (0: for good) and value of each, in order of their names.

fit_names()
local answers = {}
for _, name in ipairs(under('cellnames', ARGV[2])) do
  local value, until_ = live_cell(name)
  if value then
    answers[#answers + 1] = {name, until_, value}
  end
end
return answers
