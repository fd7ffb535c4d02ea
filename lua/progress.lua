--- What a person, or a machine, sees of a run while it goes on, and the report at its end.
---
--- Three manners: "terminal" redraws one line a node in place, with what the nodes log
--- scrolling by above; "plain" writes a line when something happens, for files and CI;
--- "json" writes every event as a JSON object on a line of standard output. Terminal and
--- plain write to standard error, the report goes to standard output.
---
--- Colours appear only on a terminal, and not when NO_COLOR is set or TERM is "dumb".

local errors = require "tidemill.errors"
local tty = require "tidemill.tty"
local units = require "tidemill.units"

local progress = {}
local Display = { __name = "tidemill.progress" }
Display.__index = Display

local REDRAW_MS, PLAIN_PROGRESS_MS = 200, 10000
local COLOURS = { running = "36", retrying = "33", success = "32", failed = "31", skipped = "2", canceled = "33",
  waiting = "2" }

local function pad(text, width, right)
  local cut, used = tty.cut(text, width)
  local space = (" "):rep(width - used)
  return right and space .. cut or cut .. space
end

local function printable(line)
  return (tty.cut(line:gsub("\t", "  "), 10000))
end

-- ---- lines of nodes ----

-- Columns from left to right; those with the lowest `keep` go first when there is no room.
local COLUMNS = {
  { name = "state", width = 9, keep = 9 },
  { name = "rows", width = 16, keep = 6, right = true },
  { name = "bytes", width = 8, keep = 5, right = true },
  { name = "rate", width = 10, keep = 4, right = true },
  { name = "elapsed", width = 7, keep = 7, right = true },
}

local function cells_of(node, now)
  local elapsed = node.started and (node.ended or now) - node.started
  local cells = { state = node.state }
  if node.rows then cells.rows = units.show_count(node.rows) .. (node.rows == 1 and " row" or " rows") end
  if node.bytes then
    cells.bytes = units.show_size(node.bytes)
    if elapsed and elapsed > 0 then cells.rate = units.show_size(node.bytes * 1000 // elapsed) .. "/s" end
  end
  if elapsed then cells.elapsed = units.show_elapsed(elapsed) end
  return cells
end

-- The columns that leave the name at least `least` of `width`, and what is left for it.
local function layout(width, least)
  local columns, used = table.move(COLUMNS, 1, #COLUMNS, 1, {}), 0
  for _, column in ipairs(columns) do used = used + column.width + 1 end
  while width - used < least and #columns > 0 do
    local lowest = 1
    for i, column in ipairs(columns) do
      if column.keep < columns[lowest].keep then lowest = i end
    end
    used = used - table.remove(columns, lowest).width - 1
  end
  return columns, math.max(width - used, 1)
end

--- The line of one node, `width` columns at most.
---@param node table      name, state, rows, bytes, started, ended, detail
---@param now integer
---@param width integer
---@param colour boolean
---@param name_width? integer  most columns of the name
---@return string
function progress.line(node, now, width, colour, name_width)
  local columns, room = layout(width, 12)
  local name = math.min(room, name_width or 40)
  local cells, parts = cells_of(node, now), { pad(node.name, name) }
  for _, column in ipairs(columns) do
    local cell = pad(cells[column.name] or "", column.width, column.right)
    if column.name == "state" and colour and COLOURS[node.state] then
      cell = ("\27[%sm%s\27[0m"):format(COLOURS[node.state], cell)
    end
    parts[#parts + 1] = cell
  end
  local line = table.concat(parts, " ")
  local left = room - name - 2
  if node.detail and node.detail ~= "" and left > 8 then line = line .. "  " .. (tty.cut(node.detail, left)) end
  return (line:gsub("%s+$", ""))
end

local SHOWN_FIRST = { running = 1, retrying = 1, failed = 2 }

--- The lines that fit: all nodes, or those that run or failed and a line that counts the rest.
---@param nodes table[]
---@param rows integer
---@return table[] shown, string? rest
function progress.choose(nodes, rows)
  if #nodes <= rows then return nodes, nil end
  local shown, chosen = {}, {}
  for rank = 1, 2 do
    for i, node in ipairs(nodes) do
      if SHOWN_FIRST[node.state] == rank and #chosen < rows - 1 then chosen[#chosen + 1] = i end
    end
  end
  table.sort(chosen)
  local is_chosen = {}
  for _, i in ipairs(chosen) do
    shown[#shown + 1] = nodes[i]
    is_chosen[i] = true
  end
  local count, parts = {}, {}
  for i, node in ipairs(nodes) do
    if not is_chosen[i] then count[node.state] = (count[node.state] or 0) + 1 end
  end
  for _, state in ipairs { "success", "running", "retrying", "polling", "failed", "canceled", "skipped", "waiting" } do
    if count[state] then parts[#parts + 1] = ("%d %s"):format(count[state], state) end
  end
  return shown, "and " .. table.concat(parts, ", ")
end

-- ---- manners ----

---@class tidemill.DisplayOptions
---@field flow string
---@field run string
---@field nodes {name: string}[]
---@field clock fun(): integer
---@field wall fun(): integer
---@field timezone? string  of the times before lines, the flow's (default "UTC")
---@field json? boolean
---@field manner? "terminal"|"plain"|"json"|"quiet"  (default: what standard error is)
---@field out? file*

local function is_dumb()
  return os.getenv "TERM" == "dumb" or os.getenv "TERM" == nil
end

local function add_node(self, name, position)
  local node = { name = name, state = "waiting" }
  table.insert(self.nodes, position, node)
  self.by_name[name] = node
  self.name_width = math.min(40, math.max(self.name_width, (tty.width(name))))
  return node
end

--- A display for one run.
---@param options tidemill.DisplayOptions
function progress.new(options)
  local self = setmetatable({ flow = options.flow, run = options.run, clock = options.clock, wall = options.wall,
    timezone = options.timezone, nodes = {}, by_name = {}, above = {}, drawn = 0, name_width = 8 }, Display)
  self.manner = options.manner or options.json and "json" or tty.is(2) and not is_dumb() and "terminal" or "plain"
  self.out = options.out or (self.manner == "json" and io.stdout or io.stderr)
  self.colour = self.manner == "terminal" and (os.getenv "NO_COLOR" or "") == ""
  for i, node in ipairs(options.nodes) do add_node(self, node.name, i) end
  return self
end

--- How long, in milliseconds, it may be until the next draw.
function Display:interval() return self.manner == "terminal" and REDRAW_MS or 60000 end

local function stamp(self)
  return require("time").format(self.wall() // 1000, "HH:mm:ss", self.timezone)
end

local function say(self, format, ...)
  local line = printable(format:format(...))
  if self.manner == "terminal" then
    self.above[#self.above + 1] = line
  elseif self.manner == "plain" then
    self.out:write(stamp(self), " ", line, "\n")
    self.out:flush()
  end
end

local function describe(node)
  local words = {}
  if node.rows then words[#words + 1] = units.show_count(node.rows) .. (node.rows == 1 and " row" or " rows") end
  if node.bytes then words[#words + 1] = units.show_size(node.bytes) end
  if node.started and node.ended then words[#words + 1] = units.show_elapsed(node.ended - node.started) end
  return #words > 0 and " (" .. table.concat(words, ", ") .. ")" or ""
end

-- The node of an event. Those of a subflow, "parent / node", are first heard of by their events;
-- they stand below their parent.
local function node_of(self, name)
  if self.by_name[name] then return self.by_name[name] end
  local parent, position = name:match "^(.*) / ", #self.nodes + 1
  for i, node in ipairs(self.nodes) do
    if parent and (node.name == parent or node.name:sub(1, #parent + 3) == parent .. " / ") then position = i + 1 end
  end
  return add_node(self, name, position)
end

-- A load takes objects of another node, of the same run, as long as that runs.
local function on_feed(self, node, event)
  local run = event.node:match "^.* / " or ""
  node.feeds_on = event.feeds_on and run .. event.feeds_on
  node.feeding = event.feeds_on and ("takes objects while '%s' runs"):format(event.feeds_on)
  for _, other in ipairs(self.nodes) do
    if other.feeds_on == node.name and event.state ~= "running" then
      if other.detail == other.feeding then other.detail = nil end
      other.feeds_on, other.feeding = nil, nil
    end
  end
end

local function on_node(self, node, event)
  on_feed(self, node, event)
  node.state, node.attempt = event.state, event.attempt
  node.started, node.ended, node.tolerated = event.started, event.ended, event.tolerated
  node.rows, node.bytes = event.rows, event.bytes
  node.detail = event.message
  node.cpu_ms, node.max_rss_bytes = event.cpu_ms or node.cpu_ms, event.max_rss_bytes or node.max_rss_bytes
  if event.error then node.error, node.detail = event.error, event.error.message end
  if event.state == "running" then
    local attempt = event.attempt > 1 and ("attempt %d"):format(event.attempt)
    node.detail = attempt and node.feeding and attempt .. ", " .. node.feeding or attempt or node.feeding
    if self.manner == "plain" then say(self, "%s: running%s", node.name, node.detail and ", " .. node.detail or "") end
  elseif event.state == "retrying" then
    say(self, "%s: attempt %d failed: %s; next in %.1f s", node.name, event.attempt, event.error.message,
      event.retry_in)
  elseif self.manner == "plain" then
    say(self, "%s: %s%s%s", node.name, event.state, describe(node), node.detail and ": " .. node.detail or "")
  end
end

local function on_progress(self, node, event)
  node.rows, node.bytes, node.detail = event.rows, event.bytes, event.detail or node.feeding
  if self.manner ~= "plain" then return end
  local now = self.clock()
  if now - (node.told_at or node.started or now) < PLAIN_PROGRESS_MS then return end
  node.told_at = now
  say(self, "%s: running (%s)", node.name, describe({ rows = node.rows, bytes = node.bytes,
    started = node.started, ended = now }):sub(3, -2))
end

--- Takes an event of the executor.
---@param event table
function Display:event(event)
  if self.manner == "json" then
    local copy = { at = self.wall(), run = self.run }
    for key, value in pairs(event) do copy[key] = value end
    copy.started, copy.ended = nil, nil
    if event.started and event.ended then copy.elapsed_ms = event.ended - event.started end
    self.out:write(require("json").encode(copy), "\n")
    self.out:flush()
  end
  local node = event.node and node_of(self, event.node)
  if event.event == "node" then
    on_node(self, node, event)
  elseif event.event == "progress" then
    on_progress(self, node, event)
  elseif event.event == "log" and event.level ~= "debug" then
    say(self, "%s: %s%s", node.name, event.level == "info" and "" or event.level .. ": ", event.line)
  end
end

--- Redraws, on a terminal.
---@param last? boolean  the last time: whatever is above, and no block
function Display:draw(last)
  if self.manner ~= "terminal" then return end
  local now = self.clock()
  if not last and #self.above == 0 and self.drawn_at and now - self.drawn_at < REDRAW_MS // 2 then return end
  self.drawn_at = now
  local columns, rows = tty.size(2)
  columns, rows = columns or 80, rows or 24
  local out = {}
  if self.drawn > 0 then out[#out + 1] = ("\27[%dA\r\27[J"):format(self.drawn) end
  for _, line in ipairs(self.above) do out[#out + 1] = line .. "\n" end
  self.above, self.drawn = {}, 0
  if not last then
    local shown, rest = progress.choose(self.nodes, math.max(rows - 2, 1))
    for _, node in ipairs(shown) do
      out[#out + 1] = progress.line(node, now, columns - 1, self.colour, self.name_width) .. "\n"
    end
    if rest then out[#out + 1] = (tty.cut(rest, columns - 1)) .. "\n" end
    self.drawn = #shown + (rest and 1 or 0)
  end
  self.out:write(table.concat(out))
  self.out:flush()
end

-- ---- the report ----

local REPORT = { { "NODE" }, { "STATE" }, { "ROWS", true }, { "BYTES", true }, { "TIME", true }, { "CPU", true },
  { "MEMORY", true } }

local function report_cells(node)
  return { node.name, node.tolerated and node.state .. " (allowed)" or node.state,
    node.rows and units.show_count(node.rows) or "",
    node.bytes and units.show_size(node.bytes) or "",
    node.started and node.ended and units.show_elapsed(node.ended - node.started) or "",
    node.cpu_ms and units.show_elapsed(node.cpu_ms) or "",
    node.max_rss_bytes and ("%d MiB"):format((node.max_rss_bytes + (1 << 19)) >> 20) or "" }
end

--- A table of texts under a heading, columns as wide as they need.
---@param heading {[1]: string, [2]: boolean?}[]  name, right-aligned?
---@param rows string[][]
---@return string[]
function progress.table(heading, rows)
  local widths = {}
  for i, column in ipairs(heading) do widths[i] = #column[1] end
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i], (tty.width(cell))) end
  end
  local names, lines = {}, {}
  for i, column in ipairs(heading) do names[i] = column[1] end
  table.insert(rows, 1, names)
  for n, row in ipairs(rows) do
    local parts = {}
    for i, cell in ipairs(row) do parts[i] = pad(cell, widths[i], heading[i][2]) end
    lines[n] = (table.concat(parts, "  "):gsub("%s+$", ""))
  end
  table.remove(rows, 1)
  return lines
end

-- A node's name as a word of a shell's command.
local function quoted(name)
  local word = name:match "^[%w_./-]+$" and name or "'" .. name:gsub("'", "'\\''") .. "'"
  return name:find "^%-" and "-- " .. word or word
end

--- The report at the end: a table of nodes, totals, each failure and where to look.
---@param nodes table[]  name, state, tolerated, rows, bytes, started, ended, cpu_ms, max_rss_bytes, error
---@param result {state: string, message: string?}
---@param about {flow: string, run: string, elapsed_ms: integer?}
---@return string
function progress.report(nodes, result, about)
  local rows, sum = {}, { rows = 0, bytes = 0, cpu_ms = 0 }
  for i, node in ipairs(nodes) do
    rows[i] = report_cells(node)
    for name in pairs(sum) do sum[name] = sum[name] + (node[name] or 0) end
  end
  local out = progress.table(REPORT, rows)
  local elapsed = about.elapsed_ms and " in " .. units.show_elapsed(about.elapsed_ms) or ""
  out[#out + 1] = ""
  out[#out + 1] = ("run %s of flow '%s': %s%s, %s rows, %s, %s of CPU"):format(about.run, about.flow, result.state,
    elapsed, units.show_count(sum.rows), units.show_size(sum.bytes), units.show_elapsed(sum.cpu_ms))
  for _, node in ipairs(nodes) do
    if node.state == "failed" and node.error then
      out[#out + 1] = ""
      out[#out + 1] = ("node '%s' failed%s"):format(node.name, node.tolerated and ", as it may" or "")
      for _, line in ipairs(errors.lines(node.error)) do out[#out + 1] = "  " .. line end
      out[#out + 1] = ("  log: tidemill logs %s %s"):format(about.run, quoted(node.name))
    end
  end
  return table.concat(out, "\n") .. "\n"
end

--- The run is over.
---@param result {state: string, message: string?, error: table?}
---@param elapsed_ms integer
function Display:finish(result, elapsed_ms)
  self:draw(true)
  if self.manner == "json" then
    self:event { event = "end", state = result.state, message = result.message, error = result.error,
      elapsed_ms = elapsed_ms }
  elseif self.manner ~= "quiet" then
    io.stdout:write(progress.report(self.nodes, result, { flow = self.flow, run = self.run,
      elapsed_ms = elapsed_ms }))
    io.stdout:flush()
  end
end

return progress
