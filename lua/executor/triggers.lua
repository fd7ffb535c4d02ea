--- Whether a node may start, by its trigger and by what became of the nodes before it.
---
--- A node counts for those behind it as `success`, `failed`, `skipped`, `canceled`, or as open
--- while it is none of these. A failure that the node allows counts as success; a branch that
--- closed counts as skipped, although it is a success itself.
---
---     all_success   all succeeded; otherwise skipped as soon as one did not (default)
---     all_done      all are over, whatever became of them
---     one_success   one succeeded: the others are not waited for
---     one_failed    one failed: the others are not waited for
---     all_failed    all failed
---     none_failed   all are over, none failed and none was cancelled

local triggers = {}

local OVER = { success = true, failed = true, skipped = true, canceled = true }

--- Those that may start because something failed: `complete_running` does not hold them back.
triggers.handles_failure = { all_done = true, one_failed = true, all_failed = true }

--- How a node counts for those behind it; nil while it is open.
---@param record table  of an executor
---@return "success"|"failed"|"skipped"|"canceled"|nil
function triggers.outcome(record)
  if record.state == "success" then return record.closed and "skipped" or "success" end
  if record.state == "failed" and record.tolerated then return "success" end
  return OVER[record.state] and record.state or nil
end

local function describe(up)
  if up.closed then return ("branch '%s' is closed: %s"):format(up.name, up.closed) end
  local words = { success = "succeeded", failed = "failed", skipped = "did not run", canceled = "was cancelled" }
  return ("upstream node '%s' %s"):format(up.name, words[triggers.outcome(up)])
end

local RULES = {}

-- The first node before this one that counts as one of `outcomes`.
local function first_of(ups, outcomes)
  for _, up in ipairs(ups) do
    if outcomes[up.outcome] then return describe(up.record) end
  end
end

local function all_but(outcomes)
  return function(ups, open)
    local bad = first_of(ups, outcomes)
    if bad then return "skip", bad end
    if open == 0 then return "start" end
  end
end

local function any(outcome, otherwise)
  return function(ups, open)
    if first_of(ups, { [outcome] = true }) then return "start" end
    if open == 0 then return "skip", otherwise end
  end
end

RULES.all_success = all_but { failed = true, skipped = true, canceled = true }
RULES.none_failed = all_but { failed = true, canceled = true }
RULES.all_failed = all_but { success = true, skipped = true, canceled = true }
RULES.all_done = all_but {}
RULES.one_success = any("success", "no upstream node succeeded")
RULES.one_failed = any("failed", "no upstream node failed")

--- What is to be done with a waiting node: start it, skip it, or (nil) wait on.
---@param trigger? string   default all_success
---@param records table[]   the nodes right before it
---@return "start"|"skip"|nil verdict, string? reason
function triggers.verdict(trigger, records)
  if #records == 0 then return "start" end
  local ups, open = {}, 0
  for i, record in ipairs(records) do
    ups[i] = { record = record, outcome = triggers.outcome(record) }
    if not ups[i].outcome then open = open + 1 end
  end
  return RULES[trigger or "all_success"](ups, open)
end

return triggers
