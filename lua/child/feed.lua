--- What a load hears of the extract whose objects it takes while that runs.
---
--- The runner hands on what the store has of one attempt of the extract, never of another: each
--- object once, in the order of completion, then the end. Objects are asked for in small lots, and the
--- next lot once the last one has been handed out; so a load may take its time, and neither the
--- runner nor the extract waits for it. The question is always open when nothing is in hand, so `fd`
--- can be read as soon as there is more.

local feed = {}
local Feed = { __name = "tidemill.feed" }
Feed.__index = Feed

---@class tidemill.FeedHead
---@field columns {name: string, type: string}[]  of the objects, as the manifest will have them
---@field format table    how they are written, as the manifest will have it
--- whatever else the extract announced

---@class tidemill.Fed  exactly one of object, manifest and upstream
---@field object? tidemill.Sealed    (lua/state/objects.lua): n, key, rows, bytes, raw_bytes, crc64, etag, span
---@field manifest? string   the extract has succeeded, and this is its manifest: all objects were handed out
---@field outputs? table     the extract's, with `manifest`
---@field upstream? "retry"|"failed"|"lost"  the attempt came to nothing: undo all, and end by returning
---{ wait = { kind = "upstream" } }

local function ask(self)
  self.question = self.talk:ask { t = "feed", after = self.after }
end

---@class tidemill.GivenFeed
---@field node string      the extract
---@field attempt integer  of it
---@field head table
---@field location string  where it writes

--- Begins to take objects.
---@param talk tidemill.Talk
---@param given tidemill.GivenFeed
---@param fd integer  that `talk` hears from
---@return tidemill.Feed
function feed.open(talk, given, fd)
  ---@class tidemill.Feed
  ---@field head tidemill.FeedHead
  ---@field node string      the extract
  ---@field attempt integer  of the extract: that which made these objects
  ---@field location string  the extract's `to`, filled in
  ---@field fd integer       readable when the runner has said something: for stream.wait, after next(0) gave nil
  local self = setmetatable({ talk = talk, head = given.head, node = given.node, attempt = given.attempt,
    location = given.location, fd = fd, lot = {}, at = 0, after = 0 }, Feed)
  ask(self)
  return self
end

--- The next thing there is to know. After the end it says the end again.
---@param seconds number   to wait for it; 0: look only
---@return tidemill.Fed?  nil: nothing in that time
function Feed:next(seconds)
  if self.over then return self.over end
  if self.at == #self.lot then
    local answer = self.talk:answer(self.question, seconds)
    if not answer then return nil end
    if answer.upstream or answer.manifest then
      self.over = { manifest = answer.manifest, outputs = answer.outputs, upstream = answer.upstream }
      return self.over
    end
    self.lot, self.at = answer.objects, 0
  end
  self.at = self.at + 1
  local object = self.lot[self.at]
  self.after = object.n
  if self.at == #self.lot then ask(self) end
  return { object = object }
end

return feed
