--- A number of objects of even size: `objects = N`.
---
--- A database that reads objects itself (a load's `via`) gives whole ones to its segments, so the number of
--- objects is to fit the number of segments, and each is to have as much as another. All jobs deal their
--- rows over the same objects, which stay open until the last job ends; so the memory of the
--- writers is divided by the objects, and their parts are smaller.

local budget = require "tidemill.budget"
local cores = require "tidemill.cores"
local errors = require "tidemill.errors"

local deal = {}

local LEAST = { s3 = 5 << 20, oss = 512 << 10, file = 64 << 10 } -- bytes of a part; S3 takes no smaller ones
local MOST = 8 << 20
local A_WRITER = 5 << 20 -- the least of one in the budget

local function least_of(store) return LEAST[store:url():match "^%w+"] end

-- How many writers' memory the objects of all jobs need.
local function writers_of(spec, jobs, store)
  if not spec.objects then return jobs end
  return math.max(jobs, (spec.objects * least_of(store) + A_WRITER - 1) // A_WRITER)
end

-- The sink of the first job, which has what all may use of memory.
local function open(work)
  local objects, store = work.spec.objects, work.place.store
  local bytes = work.share:give("writer", {}).budget_bytes * writers_of(work.spec, work.split.jobs, store) // objects
  local options = work.shape:sink(work.place, 1, work.split)
  options.count, options.object_bytes = objects, nil
  options.part_bytes = math.max(least_of(store), math.min(bytes // 2, MOST))
  options.budget_bytes, options.parallel = math.max(bytes, options.part_bytes), 1
  return store:objects(options)
end

--- The sinks of all jobs, made before any of them starts; nil if the flow does not say how many objects there
--- are to be.
---@param work extract.Work
---@return oss.Objects[]?
function deal.sinks(work)
  if not work.spec.objects then return nil end
  local sinks = { open(work) }
  for i = 2, work.split.jobs do sinks[i] = sinks[1]:another() end
  return sinks
end

--- The memory of so many jobs, whether or not the flow says how many objects there are to be. Raises usage when
--- there is too little, and says what for.
---@param ctx tidemill.Context
---@param spec table  the node's fields
---@param store oss.Store
---@param jobs integer
---@return tidemill.Budget
function deal.share(ctx, spec, store, jobs)
  local ok, share = pcall(budget.divide, ctx.memory, { writers = writers_of(spec, jobs, store), cores = cores.count(),
    zips = spec.compress ~= "none" and jobs or 0 })
  if ok then return share end
  if spec.objects and errors.is(share) and share.kind == "usage" then
    share.message = ("the memory is too little for %d objects at once"):format(spec.objects)
    share.hint = share.hint and share.hint:gsub(", or jobs = %d+", ", or fewer objects")
  end
  error(share, 0)
end

return deal
