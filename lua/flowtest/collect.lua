--- Where the tests of a file go: `tidemill test` takes them to run later; in any other script they
--- run where they stand.
---
--- `gather` is called once at a time, by that command; what is gathered is this module's only state.

local collect = {}

local list -- while a file is being read

--- Reads a file of tests: calls `body`, returns the tests that it declared.
---@param body function
---@return {name: string, body: function, line: integer}[]
function collect.gather(body)
  local gathered = {}
  list = gathered
  local ok, raised = pcall(body)
  list = nil
  if not ok then error(raised, 0) end
  return gathered
end

--- Takes a test; false when nobody gathers.
---@param test {name: string, body: function, line: integer}
---@return boolean
function collect.add(test)
  if not list then return false end
  list[#list + 1] = test
  return true
end

return collect
