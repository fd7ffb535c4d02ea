--- Whether the objects of a manifest are there, as it has them.
---
--- A listing of the range of keys that the manifest spans is compared with it, both in ascending
--- order: one request for a thousand objects, and no memory. An object that the listing lacks is
--- asked for by itself before it is called missing, for there are stores whose listings lag.

local errors = require "tidemill.errors"

local present = {}

local HINT = "run the extract again"

local function fail(message) errors.raise("integrity", message, HINT) end

-- What two keys have in common at their beginnings.
local function common(a, b)
  local n = 0
  while n < #a and n < #b and a:byte(n + 1) == b:byte(n + 1) do n = n + 1 end
  return a:sub(1, n)
end

-- A function that gives the entry of a key, asked for in ascending order; nil if the listing lacks it.
local function listing(store, prefix)
  local next_entry = store:list { prefix = prefix }
  local entry = next_entry()
  return function(key)
    while entry and entry.key < key do entry = next_entry() end
    return entry and entry.key == key and entry or nil
  end
end

-- Compares what the iterator gives, in ascending order from `first` to `last`.
local function compare(store, prefix, first, last, ...)
  first, last = prefix .. first, prefix .. last
  local find = listing(store, first == last and first or common(first, last))
  for object in ... do
    local key = prefix .. object.key
    local there = find(key) or store:head(key)
    if not there then
      fail(("object '%s' of the manifest is missing"):format(key))
    elseif there.size ~= object.bytes then
      fail(("object '%s' has %d bytes, its manifest says %d"):format(key, there.size, object.bytes))
    elseif there.etag and there.etag ~= object.etag then
      fail(("object '%s' was replaced: its ETag is %s, its manifest says %s"):format(key, there.etag, object.etag))
    end
  end
end

--- Raises kind "integrity" for the first object that is missing or is not what the manifest says.
---@param m manifest.Manifest  open
function present.check(m)
  if m.object_count > 0 then compare(m.store, m.prefix, m.first_key, m.last_key, m:objects()) end
end

--- The same for objects of a manifest that is yet to be put; sorts them. An extract that takes over
--- objects of attempts before it calls this last: a sweep may have taken one away.
---@param store oss.Store
---@param prefix string
---@param objects manifest.Object[]
function present.check_list(store, prefix, objects)
  if #objects == 0 then return end
  table.sort(objects, function(a, b) return a.key < b.key end)
  local i = 0
  compare(store, prefix, objects[1].key, objects[#objects].key, function()
    i = i + 1
    return objects[i]
  end)
end

return present
