--- Sweeping: what attempts of extracts left in a store and no manifest lists.
---
--- An object goes if its name is one that an extract gives, to the letter; if its attempt has
--- committed, or never can, which closing its place makes sure of (lua/manifest.lua); and if then
--- no manifest of its folder lists it. An unfinished upload goes by the name of its key, likewise.
--- An attempt that may still run is never closed: whether it may, the state store says, and of
--- runs that it does not know, or that may be restored, the age of what they wrote last.
---
--- An attempt may take over what those before it wrote (a resumed extract). It closes their places
--- under its own number first, so that what they left stays until it is through as well; and it
--- looks whether that is still there before it puts its manifest, like a load before it begins.
---
--- What a manifest lists is data and stays. Only if asked to, a sweep removes data that was
--- replaced: of a folder never the newest, nor what an attempt that may still be needed has
--- committed, nor an increment, since the next one adds to it and does not replace it.

local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local locations = require "tidemill.locations"
local manifest = require "tidemill.manifest"
local names = require "tidemill.manifest.names"

local sweep = {}

local BATCH = 1000
local COPY_MS = 3600 * 1000 -- what is new may be a copy under way, of which the manifest comes last
local MARK_MS = 7 * 86400 * 1000 -- a mark stays so long: no attempt sleeps longer

-- Deletes in batches; returns how many objects went. Raises the first failure.
local function remove(store, keys)
  for from = 1, #keys, BATCH do
    local failed = store:delete_many(table.move(keys, from, math.min(from + BATCH - 1, #keys), 1, {}))
    if failed[1] then
      error(errors.new("io", ("cannot delete '%s': %s"):format(failed[1].key, failed[1].message or failed[1].code
        or "refused"), { code = failed[1].code }), 0)
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
    if #keys == BATCH then
      done.objects = done.objects + remove(store, keys)
      keys = {}
    end
  end
  done.objects = done.objects + remove(store, keys)
  crash.point "sweep.objects.after"
  for _, upload in ipairs(store:list_multiparts(stem)) do
    if is_left(upload.key) then
      store:abort_multipart(upload.key, upload.upload_id)
      done.uploads = done.uploads + 1
    end
  end
  crash.point "sweep.uploads.after"
  return done
end

-- ---- a place ----

---@class sweep.Options
---@field path string       the prefix, "" or with a "/" at its end; folders below it are swept as well
---@field older_ms integer  how old the newest write of an attempt must be that nobody knows to be over
---@field now_ms integer
---@field dry_run? boolean
---@field replaced_ms? integer  how old replaced data must be to go (default: it stays)
---@field over? fun(name: manifest.Name): boolean?, string?  whether the attempt is over for good, false if it
---may still write, nil if its age must tell; and why
---@field tell fun(left: sweep.Left)  sees each attempt that left something

---@class sweep.Left
---@field folder string
---@field node string       its slug
---@field run string
---@field attempt integer
---@field objects integer
---@field bytes integer
---@field uploads integer
---@field removed boolean   with dry_run: it would be
---@field replaced? boolean what it had committed, and all of that
---@field reason? string    why it is kept
---@field unreadable? boolean  because a manifest cannot be relied on

local Sweep = {}
Sweep.__index = Sweep

-- The folder and what stands behind it.
local function split(key)
  local folder, name = key:match "^(.*/)([^/]*)$"
  return folder or "", name or key
end

-- Whose upload this is: of an object, or of a manifest.
local function parse_upload(key)
  local folder, name = split(key)
  if folder:sub(-#names.FOLDER) == names.FOLDER then
    local parsed = name:match "%.json$" and names.parse_id((name:gsub("%.json$", "")))
    return parsed and names.is_run(parsed.run) and parsed or nil, folder:sub(1, -#names.FOLDER - 1)
  end
  return names.parse_object(name), folder
end

local function new_attempt(folder, name)
  return { folder = folder, name = name, keys = {}, sizes = {}, uploads = {}, newest = 0 }
end

-- What is modified at an unknown time is modified now.
local function touch(self, attempt, modified_ms)
  attempt.newest = math.max(attempt.newest, modified_ms or self.now_ms)
end

local function uploads_of(self)
  local found = {}
  for _, upload in ipairs(self.store:list_multiparts(self.path)) do
    local name, folder = parse_upload(upload.key)
    if name and upload.key:sub(1, #self.path) == self.path then
      local id = folder .. names.id_of(name)
      found[id] = found[id] or new_attempt(folder, name)
      table.insert(found[id].uploads, upload)
      touch(self, found[id], upload.started_ms)
    end
  end
  return found
end

-- Whether an attempt is over; if not, why it is thought to run.
local function is_over(self, name, newest)
  local verdict, why
  if self.over then verdict, why = self.over(name) end
  if verdict == false then return false, why end
  local age_ms = verdict and math.min(self.older_ms, COPY_MS) or self.older_ms
  if newest < self.now_ms - age_ms then return true end
  return false, why or verdict and "its run is over, but it is new" or "nobody here knows its run, and it is new"
end

-- Whether what becomes of an attempt is settled, and of those that took over from it; notes those
-- that have committed. Else why not.
local function settle(self, attempt, name, newest, committed)
  local id = names.id_of(name)
  local state, by = manifest.state(self.store, attempt.folder, id)
  if not state then
    local over, why = is_over(self, name, newest)
    if not over then return false, why end
    if self.dry_run then return true end
    state, by = manifest.close(self.store, attempt.folder, id, "sweep")
  end
  if state == "committed" then
    committed[#committed + 1] = id
    return true
  end
  local successor = by:match "^attempt (%d%d?%d?%d?%d?%d?)$"
  successor = successor and math.tointeger(tonumber(successor))
  if not successor or successor <= name.attempt then return true end
  local mark = self.store:head(names.key(attempt.folder, id))
  return settle(self, attempt, { slug = name.slug, business = name.business, run = name.run, attempt = successor },
    mark and mark.modified_ms or self.now_ms, committed)
end

-- Of every manifest in a folder: its id, its first key and its last.
local function manifests_of(self, folder)
  if self.known_folder == folder then return self.known end
  local known, before = {}, nil
  repeat
    local ids = manifest.list(self.store, folder, before)
    for _, id in ipairs(ids) do
      local m = manifest.look(self.store, folder, id)
      if m and m.first_key then known[#known + 1] = { id = id, first = m.first_key, last = m.last_key } end
    end
    before = ids[#ids]
  until not before
  self.known_folder, self.known = folder, known
  return known
end

-- Takes out of `sizes` what a manifest lists.
local function strike(self, folder, id, sizes)
  local m = manifest.look(self.store, folder, id)
  if not m then return end
  for object in m:objects() do sizes[folder .. object.key] = nil end
end

local function span(keys)
  local first, last = keys[1], keys[1]
  for _, key in ipairs(keys) do
    if key < first then first = key elseif key > last then last = key end
  end
  return first, last
end

-- Leaves in `sizes` only what no manifest lists. Those of the attempt are read anew, others once;
-- one of them may be left out.
local function strike_listed(self, attempt, committed, but)
  local folder, sizes = attempt.folder, attempt.sizes
  for _, id in ipairs(committed) do strike(self, folder, id, sizes) end
  if not next(sizes) then return end
  local first, last = span(attempt.keys)
  first, last = first:sub(#folder + 1), last:sub(#folder + 1)
  for _, one in ipairs(manifests_of(self, folder)) do
    if one.id ~= but and one.first <= last and one.last >= first then strike(self, folder, one.id, sizes) end
  end
end

local function report(attempt)
  local left = { folder = attempt.folder, node = attempt.name.slug, run = attempt.name.run,
    attempt = attempt.name.attempt, objects = 0, bytes = 0, uploads = #attempt.uploads, removed = true }
  for _, size in pairs(attempt.sizes) do left.objects, left.bytes = left.objects + 1, left.bytes + size end
  return left
end

local function clear(self, attempt)
  local keys = {}
  for _, key in ipairs(attempt.keys) do
    if attempt.sizes[key] then keys[#keys + 1] = key end
  end
  remove(self.store, keys)
  for _, upload in ipairs(attempt.uploads) do self.store:abort_multipart(upload.key, upload.upload_id) end
end

-- Judges an attempt of which all objects and uploads are known.
local function judge(self, attempt)
  local committed, unreadable = {}, false
  local settled, why = settle(self, attempt, attempt.name, attempt.newest, committed)
  if settled then
    local ok, raised = pcall(strike_listed, self, attempt, committed)
    if not ok and (not errors.is(raised) or raised.kind ~= "integrity") then error(raised, 0) end
    if not ok then settled, why, unreadable = false, raised.message, true end
  end
  local left = report(attempt)
  if left.objects + left.uploads == 0 then return end
  if not settled then left.removed, left.reason, left.unreadable = false, why, unreadable or nil end
  if settled and not self.dry_run then clear(self, attempt) end
  self.tell(left)
end

-- ---- replaced data ----

-- Notes a manifest that the listing meets.
local function note(self, folder, name, entry)
  local place = folder:sub(1, -#names.FOLDER - 1)
  local parsed = name:match "%.json$" and names.parse_id((name:gsub("%.json$", "")))
  if not parsed or not names.is_run(parsed.run) then return end
  parsed.modified_ms = entry.modified_ms or self.now_ms
  self.places[place] = self.places[place] or {}
  table.insert(self.places[place], parsed)
end

-- Whether nobody needs any more what an attempt put in its place.
local function is_old(self, name, least_ms)
  local verdict = self.over and self.over(name)
  return verdict ~= false and name.modified_ms < self.now_ms - math.max(self.replaced_ms, least_ms)
end

-- Removes a manifest and of what it lists that which its own node and run wrote.
local function remove_replaced(self, folder, name, m)
  local attempt = new_attempt(folder, name)
  for object in m:objects() do
    local key, of = folder .. object.key, names.parse_object(object.key)
    if of and of.run == name.run and of.slug == name.slug then
      table.insert(attempt.keys, key)
      attempt.sizes[key] = object.bytes
    end
  end
  if #attempt.keys > 0 then strike_listed(self, attempt, {}, m.id) end
  local left = report(attempt)
  left.replaced = true
  if not self.dry_run then
    self.store:delete(names.key(folder, m.id)) -- first: what is half removed must not be found
    self.known_folder = nil
    clear(self, attempt)
  end
  self.tell(left)
end

-- Removes what newer manifests of the folder have replaced, and marks of long ago.
local function sweep_replaced(self, folder, found)
  table.sort(found, function(a, b) return names.less(b, a) end)
  self.known_folder = nil
  local ok, raised = pcall(manifests_of, self, folder)
  if not ok and (not errors.is(raised) or raised.kind ~= "integrity") then error(raised, 0) end
  if not ok then
    local left = report(new_attempt(folder, found[1]))
    left.removed, left.reason, left.unreadable = false, raised.message, true
    self.tell(left)
    return
  end
  local newest
  for _, name in ipairs(found) do
    local id = names.id_of(name)
    local m, by = manifest.look(self.store, folder, id)
    if m and not newest then
      newest = id
    elseif m and not m.increment and is_old(self, name, 0) then
      remove_replaced(self, folder, name, m)
    elseif by and is_old(self, name, MARK_MS) and not self.dry_run then
      self.store:delete(names.key(folder, id))
    end
  end
end

--- Sweeps a place. What cannot be judged is kept and told. Raises what the store raises.
---@param store oss.Store
---@param options sweep.Options
function sweep.place(store, options)
  local self = setmetatable({ store = store, places = {} }, Sweep)
  for key, value in pairs(options) do self[key] = value end
  local with_uploads, current, current_id = uploads_of(self), nil, nil
  for entry in store:list { prefix = self.path } do
    local folder, name = split(entry.key)
    local parsed = entry.key:sub(1, #self.path) == self.path and names.parse_object(name)
    if parsed then
      local id = folder .. names.id_of(parsed)
      if id ~= current_id then
        if current then judge(self, current) end
        current, current_id = with_uploads[id] or new_attempt(folder, parsed), id
        with_uploads[id] = nil
      end
      current.keys[#current.keys + 1] = entry.key
      current.sizes[entry.key] = entry.size or 0
      touch(self, current, entry.modified_ms)
    elseif self.replaced_ms and folder:sub(-#names.FOLDER) == names.FOLDER then
      note(self, folder, name, entry)
    end
  end
  if current then judge(self, current) end
  for _, attempt in pairs(with_uploads) do judge(self, attempt) end
  for folder, found in pairs(self.places) do sweep_replaced(self, folder, found) end
end

--- The path of a location as the command line has it: "lake:orders/", or "lake:" for all of it.
---@param text string
---@return string connection, string path
function sweep.location(text)
  local whole = text:match "^([%w_-]+):$"
  if whole then return whole, "" end
  return locations.folder(text)
end

return sweep
