--- What an extract may say of ranges and of sessions side by side: the fields that go together.

local identifiers = require "tidemill.identifiers"
local references = require "tidemill.references"

local split = {}

local function check_map(spec, report)
  local hint = "a map sees all rows in one stream"
  for _, name in ipairs { "split_by", "ranges", "resume" } do
    if spec[name] then report(name, ("has '%s' and a map"):format(name), hint) end
  end
  if (spec.jobs or 1) > 1 then report("jobs", "has jobs > 1 and a map", hint) end
end

local function check_query(spec, report)
  local by, say = spec.split_by, "say what divides it: split_by = \"table.column\""
  if not by and (spec.jobs or 1) > 1 then return report("jobs", "has jobs > 1 for a query without 'split_by'", say) end
  if not by and spec.resume then return report("resume", "is to resume a query without 'split_by'", say) end
  if not by then return end
  local uses = references.uses(spec.query)
  if by == "ctid" then
    report("split_by", "splits a query by ctid", say)
  elseif #identifiers.parts(by) < 2 then
    report("split_by", ("has split_by '%s' for a query"):format(by),
      "\"table.column\": in that table its values are looked up")
  elseif not uses.range and not (uses.lo and uses.hi) then
    report("query", "has 'split_by', but its query has no ${range}",
      "write ... WHERE ${range}, or ... WHERE column >= ${lo} AND column < ${hi}")
  end
end

local function check_table(spec, report)
  local by = spec.split_by
  if by and #identifiers.parts(by) > 1 then
    report("split_by", ("has split_by '%s'"):format(by), "of a table, a column's name alone")
  end
  if spec.resume and by == "ctid" then
    report("resume", "is to resume, but is split by ctid",
      "pages hold other rows in a later snapshot; split by a column")
  end
end

-- A number of objects, which are all written until the end.
local function check_objects(spec, report)
  if not spec.objects then return end
  if spec.resume then
    report("objects", "has 'objects' and is to resume", "none of a fixed number of objects is complete before the end")
  elseif spec.object_size then
    report("objects", "has 'objects' and 'object_size'", "a fixed number of objects have the size that comes out")
  elseif (spec.jobs or 1) > spec.objects then
    report("jobs", ("has %d jobs for %d objects"):format(spec.jobs, spec.objects), "a job needs an object to write to")
  end
end

--- Looks at the spec of an extract whose fields are settled one by one.
---@param spec table
---@param report fun(field: string?, message: string, hint: string?)
function split.finish(spec, report)
  if spec.where and not spec.table then report("where", "has 'where' without 'table'", "a query has its own WHERE") end
  check_objects(spec, report)
  if spec.map then return check_map(spec, report) end
  if spec.query then check_query(spec, report) else check_table(spec, report) end
  local by_key = spec.resume or spec.split_by and spec.split_by ~= "ctid"
  if spec.ranges and not by_key then
    report("ranges", "has 'ranges', but names no column in 'split_by'", "ranges of ctid have 'range_pages'")
  elseif spec.range_pages and by_key then
    report("range_pages", "has 'range_pages', but is not split by ctid", "the number of key ranges is 'ranges'")
  end
end

return split
