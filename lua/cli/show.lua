--- `tidemill show RUN`: one run: its times, nodes, attempts, outputs, and why it went so.

local launch = require "tidemill.launch"
local progress = require "tidemill.progress"
local project = require "tidemill.project"

-- The report's nodes, from what the store has.
local function report_nodes(store, id)
  local nodes, by_name = {}, {}
  for i, row in ipairs(store:nodes(id)) do
    nodes[i] = { name = row.node, state = row.state, rows = row.row_count, bytes = row.bytes,
      started = row.started_at, ended = row.ended_at, attempts = row.attempts }
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

local function instant(ms, timezone)
  return ("%s %s"):format(require("time").format(ms / 1000, "yyyy-MM-dd HH:mm:ss", timezone), timezone)
end

local function attempts_text(store, id)
  local out = {}
  for _, a in ipairs(store:attempts(id)) do
    if a.attempt > 1 or a.state == "failed" then
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

local function text_of(store, run)
  local out = { ("run        %s"):format(run.id), ("flow       %s"):format(run.flow),
    ("file       %s (version %s)"):format(run.file, (run.version or "unknown"):sub(1, 12)),
    ("started    %s, by %s"):format(instant(run.started_at or run.created_at, run.timezone), run.cause),
    ("scheduled  %s"):format(instant(run.scheduled_at, run.timezone)),
    ("business   %s"):format(instant(run.business_at, run.timezone)),
    ("state      %s%s"):format(run.state, run.message and ": " .. run.message or ""), "" }
  local elapsed = run.ended_at and run.started_at and run.ended_at - run.started_at or nil
  out[#out + 1] = (progress.report(report_nodes(store, run.id), run,
    { flow = run.flow, run = run.id, elapsed_ms = elapsed }):gsub("\n$", ""))
  section(out, "attempts", attempts_text(store, run.id))
  local outputs = {}
  for node, values in pairs(store:outputs(run.id)) do
    for name, value in pairs(values) do outputs[#outputs + 1] = ("  %s.%s = %s"):format(node, name, tostring(value)) end
  end
  table.sort(outputs)
  section(out, "outputs", outputs)
  local decisions = {}
  for i, d in ipairs(store:decisions(run.id)) do
    decisions[i] = ("  %s%s: %s"):format(d.node and d.node .. ": " or "", d.what, d.reason)
  end
  section(out, "decisions", decisions)
  return table.concat(out, "\n") .. "\n"
end

local function json_of(store, run)
  local json = require "json"
  run.nodes, run.attempts = json.array(store:nodes(run.id)), json.array(store:attempts(run.id))
  run.outputs, run.decisions = store:outputs(run.id), json.array(store:decisions(run.id))
  return json.encode(run) .. "\n"
end

local function run(opts, args)
  local store <close> = launch.store(project.open())
  local found = store:find_run(args[1])
  io.stdout:write((opts.json and json_of or text_of)(store, found))
  return 0
end

return {
  name = "show",
  summary = "one run: nodes, attempts, outputs, decisions",
  usage = "RUN",
  args = { 1, 1 },
  about = "RUN is an id, its beginning, its last six digits, or \"last\".",
  options = { { name = "json", help = "print JSON; times are milliseconds since 1970" } },
  run = run,
}
