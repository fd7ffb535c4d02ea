--- How many cores this process may use.

local cores = {}

--- Counts the cores that the scheduler gives this process; 1 where nobody tells.
---@return integer
function cores.count()
  local file <close> = io.open "/proc/self/status"
  local mask = file and file:read "a":match "Cpus_allowed:%s*([%x,]+)"
  local count = 0
  for digit in (mask or ""):gmatch "%x" do
    local bits = tonumber(digit, 16)
    while bits > 0 do count, bits = count + (bits & 1), bits >> 1 end
  end
  return math.max(count, 1)
end

return cores
