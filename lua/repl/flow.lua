--- `.flow FILE` and `.run NODE`: look at a flow from the prompt, run one node of it.
---
--- Both are what `tidemill plan` and `tidemill run --only` do, in this session.

local check = require "tidemill.check"
local errors = require "tidemill.errors"
local suggest = require "tidemill.suggest"

local flow = {}

local function command(name, opts, args)
  return require("tidemill.main").command(name).run(opts, args)
end

-- "orders.lua 2026-01-02 03:04:05": the path may hold blanks, the time starts with a year.
local function split(argument)
  local path, at = argument:match "^(.-)%s+(%d%d%d%d%-%d%d?%-%d%d?.*)$"
  return path or argument, at
end

--- Loads a flow, which is checked, and shows it; without a file the one that is loaded.
---@param session table
---@param argument string  FILE, or FILE and a scheduled time
function flow.load(session, argument)
  local path, at = split(argument)
  if path == "" then
    path = session.flow and session.flow.path or errors.usage("usage: .flow FILE [TIME]")
  end
  local model = check.flow(path)
  session.flow = { path = path, model = model, at = at }
  command("plan", { at = at }, { path })
end

--- Runs one node of the flow that is loaded, as it stands in the file now.
---@param session table
---@param name string
---@return nil
function flow.run(session, name)
  local loaded = session.flow
  if not loaded then errors.usage("no flow is loaded", "load one with .flow FILE") end
  local names = suggest.keys(loaded.model.by_name)
  if name == "" then errors.usage("usage: .run NODE", suggest.hint("", names, "nodes")) end
  if not loaded.model.by_name[name] then
    errors.usage(("the flow has no node '%s'"):format(name), suggest.hint(name, names, "nodes"))
  end
  local code = command("run", { only = { name }, at = loaded.at }, { loaded.path })
  if code ~= 0 then errors.raise("script", ("node '%s' did not succeed"):format(name)) end
end

return flow
