--- Sweeping: what attempts of extracts left in a store and no manifest lists.
---
--- An object goes if its name is one that an extract gives, to the letter; if its attempt can never
--- commit any more, which closing its place makes sure of (lua/manifest.lua), or has committed;
--- and if no manifest of its folder lists it, as they all are after that. An unfinished upload goes
--- by the name of its key, likewise. An attempt that may still run is never closed: whether it may,
--- the state store says, and of runs that it does not know the age of what they wrote last.
---
--- An attempt may take over what those before it wrote (a resumed extract). It closes their places
--- under its own number first; so what a place closed like that leaves goes only once the
--- successor is through as well.

local manifest = require "tidemill.manifest"
local names = require "tidemill.manifest.names"

local sweep = {}

local BATCH = 1000

-- Deletes in batches; returns how many objects went. Raises the first failure.
local function remove(store, keys)
  for from = 1, #keys, BATCH do
    local failed = store:delete_many(table.move(keys, from, math.min(from + BATCH - 1, #keys), 1, {}))
    if failed[1] then
      error(require "tidemill.errors".new("io", ("cannot delete '%s': %s"):format(failed[1].key,
        failed[1].message or failed[1].code or "refused"), { code = failed[1].code }), 0)
    end
  end
  return #keys
end

-- ---- a node's own older attempts ----

--- Closes the attempts of a node before this one and removes what they left; what they committed
--- stays. To be called before the attempt writes anything.
---@param store oss.Store
---@param prefix string
---@param who manifest.Who  the attempt
---@param keep? table<string, boolean>  keys, relative to the prefix, that it takes over
---@return {objects: integer, uploads: integer}
function sweep.older(store, prefix, who, keep)
  local closed, stem = {}, prefix .. names.stem(who)
  for attempt = 1, who.attempt - 1 do
    local state = manifest.close(store, prefix, names.id(who, attempt), ("attempt %d"):format(who.attempt))
    closed[attempt] = state == "closed"
  end
  local function is_left(key)
    local attempt = key:sub(1, #stem) == stem and key:match("^(%d+)%-%d+%-%d+%.", #stem + 1)
    return attempt and closed[math.tointeger(tonumber(attempt))] and not (keep and keep[key:sub(#prefix + 1)])
  end
  local done, keys = { objects = 0, uploads = 0 }, {}
  for entry in store:list { prefix = stem } do
    if is_left(entry.key) then keys[#keys + 1] = entry.key end
  end
  done.objects = remove(store, keys)
  for _, upload in ipairs(store:list_multiparts(stem)) do
    if is_left(upload.key) then
      store:abort_multipart(upload.key, upload.upload_id)
      done.uploads = done.uploads + 1
    end
  end
  return done
end

return sweep
