-- renew: make leases last longer, those that are still held. Works while indexes are being rebuilt, too.
--
-- uses     clock base rows
-- flags    allow-oom
-- ARGV[2]  Microseconds that a lease lasts from now.
-- ARGV[3]  The leases, packed: {id, token}.
-- answers  For each: 0 lost, 1 kept, or text: kept, but asked to stop for this reason.

local answers, until_ = {}, now + tonumber(ARGV[2])
for n, lease in ipairs(cmsgpack.unpack(ARGV[3])) do
  local row = load(lease[1])
  if row and row.state == 'r' and row.token == lease[2] then
    row.lease = until_
    touch(row)
    pend('lease', number16(row.seq) .. row.id, until_)
    answers[n] = row.stop or 1
  else
    answers[n] = 0
  end
end
if is_whole() then
  write_pending()
end
write_rows()
return answers
