--- `tidemill show RUN`: one run: its times, nodes, attempts, outputs, and what belongs to it.

local calendar = require "tidemill.calendar"
local operate = require "tidemill.operate"
local progress = require "tidemill.progress"

-- The report's nodes, from what the store has.
local function report_nodes(store, id)
  local nodes, by_name = {}, {}
  for i, row in ipairs(store:nodes(id)) do
    nodes[i] = { name = row.node, state = row.state, tolerated = row.tolerated == 1,
      rows = row.row_count, bytes = row.bytes, started = row.started_at, ended = row.ended_at, attempts = row.attempts }
    by_name[row.node] = nodes[i]
  end
  for _, attempt in ipairs(store:attempts(id)) do
    local node = by_name[attempt.node]
    node.cpu_ms = (node.cpu_ms or 0) + (attempt.cpu_ms or 0)
    node.max_rss_bytes = math.max(node.max_rss_bytes or 0, attempt.max_rss_bytes or 0)
    node.error = attempt.error
  end
  return nodes
end

local function attempts_text(store, run)
  local out = {}
  for _, a in ipairs(store:attempts(run.id)) do
    if a.attempt > 1 or a.state == "failed" or a.state == "lost" then
      out[#out + 1] = ("  %s, attempt %d: %s%s%s"):format(a.node, a.attempt, a.state,
        a.exit_signal and " by " .. a.exit_signal or "", a.error and ": " .. a.error.message or "")
    end
  end
  return out
end

local function section(out, title, lines)
  if #lines == 0 then return end
  out[#out + 1] = ""
  out[#out + 1] = title
  table.move(lines, 1, #lines, #out + 1, out)
end

local function add(out, name, text)
  if text then out[#out + 1] = ("%-10s %s"):format(name, text) end
end

local function settings_text(settings)
  local parts = {}
  for _, name in ipairs(require("tidemill.suggest").keys(settings and settings.set or {})) do
    parts[#parts + 1] = ("%s=%s"):format(name, settings.set[name])
  end
  if settings and settings.only then parts[#parts + 1] = "only " .. table.concat(settings.only, ", ") end
  return #parts > 0 and table.concat(parts, "; ") or nil
end

local function late_nodes_text(store, run)
  local out = {}
  for _, node in ipairs(store:nodes(run.id)) do
    if node.late_at then
      out[#out + 1] = ("  %s: past its deadline since %s"):format(node.node, calendar.show(node.late_at, run.timezone))
    end
  end
  return out
end

local function lateness(run, instant)
  if not run.deadline_at then return nil end
  if run.late_at then return ("late: not ended by %s"):format(instant(run.deadline_at)) end
  return instant(run.deadline_at)
end

local function head(run)
  local function instant(ms) return ms and ("%s %s"):format(calendar.show(ms, run.timezone), run.timezone) end
  local out = {}
  add(out, "run", run.id)
  add(out, "flow", run.flow)
  add(out, "file", ("%s (%sversion %s)"):format(run.file, run.version_no and "" or "not published, ",
    run.version_no and ("%d, %s"):format(run.version_no, run.version:sub(1, 12)) or run.version:sub(1, 12)))
  add(out, "cause", run.cause .. (run.of_run and " of " .. run.of_run or ""))
  add(out, "parent", run.parent_run and ("%s, node '%s'"):format(run.parent_run, run.parent_node))
  add(out, "backfill", run.backfill and ("%s, position %d"):format(run.backfill, run.backfill_position))
  add(out, "scheduled", instant(run.scheduled_at))
  add(out, "business", instant(run.business_at))
  add(out, "created", instant(run.created_at))
  add(out, "started", instant(run.started_at))
  add(out, "ended", instant(run.ended_at))
  add(out, "deadline", lateness(run, instant))
  add(out, "settings", settings_text(run.settings))
  add(out, "runner", run.runner)
  add(out, "state", ("%s%s%s"):format(run.state, run.message and ": " .. run.message or "",
    run.request and (" (asked to %s)"):format(run.request) or ""))
  return out
end

local function value_text(value)
  return type(value) == "table" and require("json").encode(value) or tostring(value)
end

-- The sections of a node's report (ctx:report); nil for what is none.
local function sections_of(value)
  local ok, sections = pcall(require("json").decode, value)
  if not ok or type(sections) ~= "table" then return nil end
  for _, one in pairs(sections) do
    if type(one) ~= "table" then return nil end
  end
  return sections
end

-- "out, source: 12s in one snapshot, 2 sessions"; figures by name where there is no text.
local function section_text(node, name, values)
  local shown = values.text
  if not shown then
    local parts = {}
    for i, key in ipairs(require("tidemill.suggest").keys(values)) do
      parts[i] = ("%s = %s"):format(key, value_text(values[key]))
    end
    shown = table.concat(parts, ", ")
  end
  return ("  %s, %s: %s"):format(node, name, shown)
end

local function outputs_text(store, id)
  local out, report = {}, {}
  for node, values in pairs(store:outputs(id)) do
    for name, value in pairs(values) do
      local sections = name == "report" and sections_of(value)
      if not sections then out[#out + 1] = ("  %s.%s = %s"):format(node, name, value_text(value)) end
      for section_name, figures in pairs(sections or {}) do
        report[#report + 1] = section_text(node, section_name, figures)
      end
    end
  end
  table.sort(out)
  table.sort(report)
  return out, report
end

local function target_text(target)
  if target.webhook then return ("webhook '%s'"):format(target.webhook) end
  if target.email then return "e-mail to " .. table.concat(target.email, ", ") end
  return "shell hook"
end

local function notices_text(store, id)
  local out = {}
  for i, n in ipairs(store:notices(id)) do
    out[i] = ("  %s of %s%s: %s%s%s"):format(target_text(n.target), n.what,
      n.node and (" node '%s'"):format(n.node) or "", n.state,
      n.attempts > 1 and (", %d tries"):format(n.attempts) or "", n.error and ": " .. n.error.message or "")
  end
  return out
end

local function waiting_text(store, run)
  local out = {}
  for _, node in ipairs(store:nodes(run.id)) do
    if node.state == "polling" or node.state == "retrying" then
      out[#out + 1] = ("  %s: %s%s"):format(node.node, node.message or node.waiting and node.waiting.reason
        or node.state, node.next_at and ", again at " .. calendar.show(node.next_at, run.timezone) or "")
    end
  end
  return out
end

local function children_text(store, id)
  local out = {}
  for i, child in ipairs(store:runs { parent = id, limit = 1000 }) do
    out[i] = ("  %s of flow '%s' for node '%s': %s"):format(child.id, child.flow, child.parent_node, child.state)
  end
  return out
end

local function print_text(store, run)
  local out = head(run)
  out[#out + 1] = ""
  local elapsed = run.ended_at and run.started_at and run.ended_at - run.started_at or nil
  out[#out + 1] = (progress.report(report_nodes(store, run.id), run,
    { flow = run.flow, run = run.id, elapsed_ms = elapsed }):gsub("\n$", ""))
  section(out, "attempts", attempts_text(store, run))
  section(out, "waiting", waiting_text(store, run))
  section(out, "late", late_nodes_text(store, run))
  local outputs, report = outputs_text(store, run.id)
  section(out, "report", report)
  section(out, "outputs", outputs)
  section(out, "subflows", children_text(store, run.id))
  section(out, "notices", notices_text(store, run.id))
  local decisions = {}
  for i, d in ipairs(store:decisions(run.id)) do
    decisions[i] = ("  %s%s: %s"):format(d.node and d.node .. ": " or "", d.what, d.reason)
  end
  section(out, "decisions", decisions)
  operate.print_lines(out)
end

local function print_all(store, run)
  local json = require "json"
  run.nodes, run.attempts = json.array(store:nodes(run.id)), json.array(store:attempts(run.id))
  run.outputs, run.decisions = store:outputs(run.id), json.array(store:decisions(run.id))
  run.notices = json.array(store:notices(run.id))
  run.children = json.array(store:runs { parent = run.id, limit = 1000 })
  operate.print_json(run)
end

local function run(opts, args)
  local store <close> = operate.open()
  local found = store:find_run(args[1])
  local print_run = opts.json and print_all or print_text
  print_run(store, found)
  return 0
end

return {
  name = "show",
  summary = "one run: times, nodes, attempts, outputs, notices, decisions",
  usage = "RUN",
  args = { 1, 1 },
  about = "RUN is an id, its beginning, its last six digits, or \"last\". Times are in the flow's zone.",
  options = { { name = "json", help = "print JSON; times are milliseconds since 1970" } },
  run = run,
}
