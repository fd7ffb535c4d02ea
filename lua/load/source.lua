--- Which objects a load takes: one iterator, whether they come from a manifest or from an extract
--- that still runs.
---
--- The manifest is the one that an extract of this run made in the same place, else the one that
--- this node has begun with (pieces of it are in the ledger), else the newest there. Only what it
--- lists is read. An extract that still runs tells of its objects as they are completed (the feed);
--- what it told is a hint alone. Its manifest then says what counts: what was taken early must be in
--- it as it was, and what it has besides is taken after.
---
--- Objects that the ledger has from an attempt before are passed over. All of them must be in the
--- manifest: if the extract was run again in between and has committed others, the table holds rows
--- of both, which only a person can sort out.

local crew = require "tidemill.load.crew"
local errors = require "tidemill.errors"
local increment = require "tidemill.load.increment"
local locations = require "tidemill.locations"
local manifest = require "tidemill.manifest"
local present = require "tidemill.manifest.present"
local signal = require "tidemill.signal"
local text = require "tidemill.text"

local source = {}

--- Raised when the extract behind a feed went away: nothing is published, and the load is offered again.
source.GONE = setmetatable({}, { __name = "load.gone", __tostring = function() return "the extract went away" end })

---@class load.Source
---@field store oss.Store
---@field prefix string   of the keys
---@field head table      columns and format of the objects
---@field piece_rows integer  that attempts before have committed
---@field manifest? manifest.Manifest  once it is known: what was taken till then is in it as it was
local Source = {}
Source.__index = Source

-- Where a node before this one has made or found a manifest, and its id.
local function place_of(node, outputs)
  local kind, spec = node.kind, node.spec
  local place = kind == "extract" and spec.to or kind == "wait_for" and spec.extracted
    or kind == "load" and spec.reject and spec.reject.to
  return place, kind == "load" and outputs.rejects or outputs.manifest
end

-- The manifest that an extract of this run made here, else that it waited for; nil if none did.
local function manifest_of_run(ctx, spec)
  local found = {} -- by the kind of node
  for name, outputs in pairs(ctx.upstream or {}) do
    local node = ctx.plan.by_name[name]
    local place, id
    if node then place, id = place_of(node, outputs) end
    if id and locations.same(place, spec.from) then
      local other = found[node.kind]
      if other and other.id ~= id then
        errors.raise("conflict", ("nodes '%s' and '%s' before this one name different data in %s"):format(other.name,
          name, spec.from), "give each extract a place of its own")
      end
      found[node.kind] = { name = name, id = id }
    end
  end
  local best = found.extract or found.load or found.wait_for
  return best and best.id
end

-- Compares what was taken and what the ledger has with the manifest, which is known now.
local function settle(self, id)
  local m = manifest.open(self.store, self.prefix, self.place, id)
  increment.check(self.ctx, self.spec, m)
  present.check(m)
  local early, before = 0, 0
  for object in m:objects() do
    local taken, piece = self.taken[object.key], self.pieces[self.prefix .. object.key]
    if taken and taken.etag == object.etag and taken.rows == object.rows then early = early + 1 end
    if piece and piece.etag == object.etag and piece.rows == object.rows then before = before + 1 end
  end
  if before < self.piece_count then
    errors.raise("conflict", ("%s of other data of %s %s in the table already, from an attempt before this one"):format(
      text.count(self.piece_count - before, "object"), self.place,
      self.piece_count - before == 1 and "is" or "are"),
      ("the extract was run again in between: remove the rows of this run, and DELETE FROM tidemill.load_ledger " ..
        "WHERE run_id = '%s' AND node = '%s'; then restore"):format(self.ctx.run_id, (self.ctx.node:gsub("'", "''"))))
  end
  if early < self.taken_count then return false end
  self.manifest, self.head, self.next_object, self.feed = m, m, m:objects(), nil
  self.heard = {} -- what was told and not taken comes with the manifest
  return true
end

-- Takes one thing that the feed tells within so many seconds; false if there is none.
local function hear(self, seconds)
  local told = self.feed:next(seconds)
  if not told then return false end
  if told.object then
    table.insert(self.heard, told.object)
  elseif told.upstream or told.manifest and not settle(self, told.manifest) then
    self.ctx:log("warn", told.upstream and "the extract did not end well (%s): what was loaded so far is rolled back"
      or "the extract committed other objects than it had told of: what was loaded so far is rolled back",
      told.upstream)
    error(source.GONE, 0)
  end
  return true
end

-- Whether nobody has it yet.
local function is_free(self, object)
  local piece = self.pieces[self.prefix .. object.key]
  return not self.taken[object.key] and not (piece and piece.etag == object.etag)
end

local function first_of_feed(self)
  while #self.heard > 0 do
    local object = table.remove(self.heard, 1)
    if is_free(self, object) then return object end
  end
  return nil
end

local function first_of_manifest(self)
  local object
  while self.next_object do
    object = self.next_object()
    if not object then self.next_object = nil end -- each worker comes here, and the iterator ends once
    if not object or is_free(self, object) then break end
  end
  return object
end

local PATIENCE = 60 -- seconds of one look at a silent feed

--- Opens it: finds the manifest, or learns from the feed what its objects look like.
---@param ctx tidemill.Context
---@param spec table   the node's fields
---@param begun ledger.Begun  what attempts before have committed piece by piece
---@return load.Source
function source.open(ctx, spec, begun)
  local store, prefix = ctx:location(spec.from)
  local self = setmetatable({ ctx = ctx, spec = spec, store = store, prefix = prefix, place = spec.from,
    feed = ctx.feed, heard = {}, opened = {}, taken = {}, taken_count = 0, pieces = begun.objects,
    piece_count = begun.count, piece_rows = begun.rows }, Source)
  while self.feed and not self.feed.head do hear(self, PATIENCE) end
  if self.feed then
    self.head = self.feed.head
  elseif not self.manifest then
    settle(self, manifest_of_run(ctx, spec) or begun.manifest)
  end
  return self
end

-- Takes the first object that is known and free.
local function take(self)
  local object = first_of_feed(self) or not self.feed and first_of_manifest(self) or nil
  if object and self.feed then -- the manifest gives each once, without those taken here
    self.taken[object.key] = object
    self.taken_count = self.taken_count + 1
  end
  return object
end

--- The next object to load; nil when there are no more, and then the manifest is known. Waits for the
--- extract as a worker of a crew does. Raises source.GONE.
---@return manifest.Object?
function Source:next()
  local object = self.ahead or take(self)
  self.ahead = nil
  while not object and self.feed do
    local fd = self.feed.fd
    if not hear(self, 0) then crew.await(fd) end
    object = self.ahead or take(self)
    self.ahead = nil
  end
  return object
end

local function open(self, object, share, ahead)
  return self.store:reader(self.prefix .. object.key,
    share:give("reader", { size = object.bytes, crc64 = object.crc64, etag = object.etag, ahead = ahead }))
end

--- The stored bytes of an object that `next` gave.
---@param object manifest.Object
---@param share tidemill.Budget
---@return oss.Reader
function Source:reader(object, share)
  local reader = self.opened[object]
  self.opened[object] = nil
  return reader or open(self, object, share)
end

--- Begins to fetch the object that `next` will give, if it is known: its first bytes are there when
--- a COPY ends, however far the store.
---@param share tidemill.Budget
function Source:look_ahead(share)
  if self.ahead then return end
  self.ahead = take(self)
  if self.ahead then self.opened[self.ahead] = open(self, self.ahead, share, true) end
end

--- Gives up what was fetched ahead.
function Source:close()
  for _, reader in pairs(self.opened) do reader:close() end
end
Source.__close = Source.close

--- Hears what the extract tells, while workers are busy. Raises source.GONE.
function Source:listen()
  while self.feed and hear(self, 0) do end
end

local FATE_SECONDS = 30

--- Whether a load that has failed did so beside an extract that comes to nothing: which removes its objects
--- before it ends, so if one was missing, word of that is waited for.
---@param was_missing? boolean
---@return boolean
function Source:is_gone(was_missing)
  local patience = was_missing and FATE_SECONDS or 0
  local deadline = signal.mono() + 1000 * patience
  while self.feed do
    local ok, heard = pcall(hear, self, patience)
    if not ok then return heard == source.GONE end
    if not heard or signal.mono() > deadline then break end
    patience = math.max(deadline - signal.mono(), 0) / 1000
  end
  return false
end

--- Iterates over the objects of the manifest that the ledger does not have.
---@return fun(): ledger.Object?
function Source:recorded()
  local next_object, _, _, reader = self.manifest:objects()
  return function()
    local object
    repeat object = next_object() until not object or not self.pieces[self.prefix .. object.key]
    return object and { key = self.prefix .. object.key, etag = object.etag, rows = object.rows }
  end, nil, nil, reader
end

return source
