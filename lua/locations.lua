--- Locations, as authors write them: "connection:path/", where the last '/' may be left out.

local errors = require "tidemill.errors"

local locations = {}

--- Splits "connection:path/"; nil and what is wrong with it.
---@param text string
---@return string? connection, string path_or_reason
function locations.split(text)
  local connection, path = text:match "^([%w_-]+):(.*)$"
  if not connection then return nil, "a location is \"connection:path/\"" end
  if path:find "^/" then return nil, "the path of a location does not start with '/'" end
  if path == "" then return nil, "a location needs a path behind the colon" end
  if path:find "%c" then return nil, "the path of a location has a control character" end
  for part in path:gmatch "[^/]+" do
    if part == "." or part == ".." then return nil, ("the path of a location has a part '%s'"):format(part) end
  end
  return connection, path
end

--- The connection and the prefix of keys, which ends in "/". Raises usage if the text is no location.
---@param text string
---@return string connection, string prefix
function locations.folder(text)
  local connection, path = locations.split(text)
  if not connection then errors.usage(("'%s': %s"):format(text, path)) end
  return connection, path:find "/$" and path or path .. "/"
end

--- Whether both are there and name the same folder.
---@param a? string|false
---@param b? string|false
---@return boolean
function locations.same(a, b)
  if not a or not b then return false end
  return a:gsub("/$", "") == b:gsub("/$", "")
end

return locations
