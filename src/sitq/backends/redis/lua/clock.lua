-- What every script begins with: its namespace and its clock.
--
-- KEYS[1]  The namespace's prefix, such as "{sitq}:". Every key begins with it, so all of them are in one
--          slot of a cluster; the prefix itself is no key, it is there to route the call.
-- ARGV[1]  Empty: the server's clock decides. Otherwise the instant, in microseconds, for tests.
--
-- Instants and sequences stay below 2^58 and are whole numbers, which Lua's doubles hold exactly below 2^53
-- and to 32 µs above. They are written as decimals of fixed width, since `tostring` keeps 14 digits only.

local call, pack, format, sub = redis.call, cmsgpack.pack, string.format, string.sub
local prefix = KEYS[1]
local now
if ARGV[1] == '' then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
else
  now = tonumber(ARGV[1])
end

