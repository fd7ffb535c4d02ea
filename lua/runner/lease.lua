--- What a runner knows of its lease: kept by a thread (tidemill.lease), or, where there is none,
--- renewed between the runner's steps.
---
--- It is lost for good when somebody declared the runner gone, and it counts as lost when no
--- renewal succeeded for as long as it lasts: another may then have taken over.

local lease = {}

local RENEWALS = 5 -- in the time of one lease

local Threaded = {}
Threaded.__index = Threaded

function Threaded:held() return self.keeper:held() end
function Threaded.renew() end
function Threaded.next_time() return math.huge end
function Threaded:ends_at() return self.clock() + math.max(self.lease_ms - self.keeper:age(), 0) end
function Threaded:close() self.keeper:close() end

local Own = {}
Own.__index = Own

function Own:held() return not self.lost and self.clock() < self:ends_at() end
function Own:ends_at() return self.renewed_at + self.lease_ms end
function Own:next_time() return self.lost and self.clock() or self.renew_at end
function Own.close() end

function Own:renew()
  local now = self.clock()
  if now < self.renew_at or self.lost then return end
  if self.store:renew(self.id) then
    self.renewed_at, self.renew_at = now, now + self.lease_ms // RENEWALS
  else
    self.lost = true
  end
end

--- The lease of a runner that has just registered.
---@param r table        the runner: id, store, clock, lease_ms, hold
---@param since integer  when it asked for its row, on the runner's clock
---@return table  held() -> boolean, error?; renew(); next_time(); ends_at(); close()
function lease.keep(r, since)
  if r.hold then
    return setmetatable({ keeper = r.hold(r.id, r.lease_ms, r.clock() - since), clock = r.clock,
      lease_ms = r.lease_ms }, Threaded)
  end
  return setmetatable({ id = r.id, store = r.store, clock = r.clock, lease_ms = r.lease_ms, renewed_at = since,
    renew_at = since + r.lease_ms // RENEWALS }, Own)
end

return lease
