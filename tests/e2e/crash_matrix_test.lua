-- needs: pg fdw ossd
-- timeout: 5400
-- takes: 60
--- kill -9 before and after every durable step of a transfer, in every mode: the rows are there once.
---
--- The steps are the crash points of the sources (runtime/base/crash.h). For each mode it is noted
--- which of them a transfer passes: at first, while it recovers, and in a sweep. Then each is passed
--- once more by a transfer of its own that dies there; after `restore` the target must equal the
--- source by count and hash, the ledger must say so, and nothing may be left in store or target.
---
--- `make crash` does this at every point of every mode, prints the matrix and writes
--- build/crash.tsv; `make test` kills at each point once, in a mode that TM_SEED draws from the matrix that
--- is kept (tests/crash-matrix.txt). A point that is never passed fails either. TM_MODES="merge,append 2"
--- limits the modes, TM_MORE=0 the kills to one a point and mode.

local lu = require "luaunit"
local proc = require "proc"
local rig = require "tests.support.rig"
local text = require "tidemill.text"

local FULL = os.getenv "TM_SCALE" == "full"
local MORE = tonumber(os.getenv "TM_MORE") or 1
local KEPT = "tests/crash-matrix.txt"
local BUILD = os.getenv "TM_BUILD"

-- Every point's name, as it stands in the sources.
local function points()
  local found, names = {}, {}
  local r = proc.run { cmd = [[grep -rhoE '(tm_crash_point\(|crash\.point[ (])"[^"]+"' runtime lua --include=*.c --include=*.lua]],
    check = true }
  for name in r.stdout:gmatch '"([^"]+)"' do
    if not found[name] then names[#names + 1] = name end
    found[name] = true
  end
  table.sort(names)
  return names
end

-- ---- how a transfer comes to a point ----

local function run() return { "run", "f.lua" } end
local function restore() return { "restore", "last" } end
local function sweep() return { "sweep", "lake:", "--older", "0s" } end

-- What dies is the last command; the run before it has died at a point of its own.
local PATHS = {
  { name = "run", words = run },
  { name = "extract", after = "manifest.put.before", words = restore },
  { name = "upload", after = "oss.complete.before", words = restore },
  { name = "load", after = "load.commit.before", words = restore },
  { name = "sweep", after = "manifest.put.before", words = sweep },
}

local function go_to(r, mode, path, environment)
  r:prepare(mode)
  if path.after then
    r:command({ "run", "f.lua" }, { TIDEMILL_CRASH = path.after, TIDEMILL_CRASH_ONCE = r.lab.dir .. "/before" })
  end
  return r:command(path.words(), environment)
end

-- How often each point is passed, by name.
local function passes(r, mode, path)
  local file = r.lab.dir .. "/passed"
  os.remove(file)
  go_to(r, mode, path, { TIDEMILL_CRASH = "list:" .. file })
  local counts, f <close> = {}, io.open(file)
  for line in f and f:lines() or function() end do counts[line] = (counts[line] or 0) + 1 end
  r:settle()
  r:check()
  return counts
end

-- Kills at the n-th passing; whether it came to that. Raises what then is wrong.
local function kill(r, mode, path, point, n)
  go_to(r, mode, path, { TIDEMILL_CRASH = ("%s:%d"):format(point, n) })
  local killed = r:was_killed()
  r:settle()
  r:check()
  return killed
end

-- ---- the matrix ----

local cells = {} -- by mode, by point: how many kills, or the first failure
local where = {} -- by point: the path and the rig that came there first

local function note(mode, point, what)
  local of_mode = cells[mode.name] or {}
  cells[mode.name] = of_mode
  if type(of_mode[point]) == "string" then return end
  of_mode[point] = type(what) == "string" and what or (of_mode[point] or 0) + 1
end

-- With several jobs a process does not pass each point as often each time.
local function try(r, mode, path, point, n)
  for _ = 1, 3 do
    local ok, result = pcall(kill, r, mode, path, point, n)
    if not ok then
      note(mode, point, ("%s, killed in %s at %d: %s"):format(mode.name, path.name, n, tostring(result)))
    elseif result then
      note(mode, point, 1)
    end
    if not ok or result then
      where[point] = where[point] or { path = path.name, size = r.name }
      return true
    end
    n = 1
  end
end

local function modes()
  local wanted = os.getenv "TM_MODES"
  local list = {}
  for _, mode in ipairs(rig.list) do
    if not wanted or ("," .. wanted .. ","):find("," .. mode.name .. ",", 1, true) then list[#list + 1] = mode end
  end
  return list
end

-- Small rows go as plain puts, large ones as uploads of several parts.
local rigs = {
  function() return rig.new { name = "small" } end,
  function() return rig.new { name = "large", rows = 20000, width = 1200, object_size = "9MiB" } end,
}

-- All that a mode passes; what only large rows pass, with them; of what it passes again as it recovers
-- some.
local function whole_mode(mode, open)
  local seen = {}
  for i, r in ipairs(open) do
    for _, path in ipairs(PATHS) do
      local ok, counts = pcall(passes, r, mode, path)
      if not ok then
        note(mode, "(none)", ("%s, %s: %s"):format(mode.name, path.name, tostring(counts)))
      end
      for point, count in pairs(ok and counts or {}) do
        if seen[point] == nil or seen[point] == i and math.random() < 0.1 * MORE then
          try(r, mode, path, point, 1)
          if count > 1 and math.random() < 0.3 * MORE then try(r, mode, path, point, math.random(2, count)) end
        end
        seen[point] = seen[point] or i
      end
    end
  end
end

-- Kills at the points of a set wherever they are passed first.
local function search(open, missing)
  for _, r in ipairs(open) do
    for _, path in ipairs(PATHS) do
      for _, mode in ipairs(modes()) do
        if not next(missing) then return end
        for point in pairs(passes(r, mode, path)) do
          if missing[point] and try(r, mode, path, point, 1) then missing[point] = nil end
        end
      end
    end
  end
end

-- What the kept matrix says: by point, how it is passed and in which modes.
local function kept()
  local names, found = {}, {}
  for line in io.lines(KEPT) do
    local letter, name = line:match "^(%l)  (.+)$"
    if letter then names[#names + 1] = name end
    local point, path, size, marks = line:match "^(%l+%.%l+%.%l+) +(%l+) +(%l+) +(.*)$"
    if point then
      local row = { path = path, size = size }
      for mark in marks:gmatch "%S+" do
        row.at = (row.at or 0) + 1
        if mark == "ok" then row[#row + 1] = rig.modes[names[row.at]] end
      end
      found[point] = row
    end
  end
  return found
end

local function by_name(list, name)
  for _, one in ipairs(list) do
    if one.name == name then return one end
  end
end

-- Each point once.
local function sample(open, wanted)
  local missing, known = {}, kept()
  for _, point in ipairs(wanted) do
    local row = known[point] or {}
    local mode, path, r = row[1] and row[math.random(#row)], by_name(PATHS, row.path), by_name(open, row.size)
    if rig.SLOW == 1 or math.random() < 0.3 then -- a sanitizer takes its time
      if not (mode and path and r and try(r, mode, path, point, 1)) then missing[point] = true end
    else
      where[point] = row
    end
  end
  search(open, missing)
end

local function write(name, what)
  local f <close> = assert(io.open(BUILD .. "/" .. name, "w"))
  f:write(what, "\n")
end

local function cell(mode, point)
  local what = (cells[mode.name] or {})[point]
  return type(what) == "string" and "FAIL" or what and "ok" or "-"
end

-- Rows are points, columns are modes.
local function report(names, list)
  local lines, tsv, kills = {}, { "point" }, 0
  for i, mode in ipairs(list) do
    lines[i] = ("%s  %s"):format(string.char(96 + i), mode.name)
    tsv[1] = tsv[1] .. "\t" .. mode.name
  end
  lines[#lines + 1] = ""
  local function add(name, path, size, of)
    local row = { ("%-24s %-7s %-5s"):format(name, path, size) }
    for i, mode in ipairs(list) do row[i + 1] = ("%-4s"):format(of(mode, i)) end
    lines[#lines + 1] = table.concat(row, " "):gsub("%s+$", "")
  end
  add("killed at", "in", "rows", function(_, i) return string.char(96 + i) end)
  for _, point in ipairs(names) do
    local first = where[point] or {}
    add(point, first.path or "-", first.size or "-", function(mode) return cell(mode, point) end)
    local row = { point }
    for i, mode in ipairs(list) do
      local what = (cells[mode.name] or {})[point]
      row[i + 1] = cell(mode, point)
      kills = kills + (type(what) == "number" and what or 0)
    end
    tsv[#tsv + 1] = table.concat(row, "\t")
  end
  lines[#lines + 1] = ("\n%s at %d points. apart: not pipelined; -: the mode does not pass the point. "
    .. "in: the run, a run restored after its\n'extract', 'upload' or 'load' was killed, or a sweep after that"):format(
    text.count(kills, "kill"), #names)
  return table.concat(lines, "\n"), table.concat(tsv, "\n")
end

TestMatrix = {}

function TestMatrix.test_a_kill_at_any_step_loses_and_doubles_nothing()
  local names, open, list = points(), {}, modes()
  lu.assertTrue(#names > 20)
  for i, make in ipairs(rigs) do open[i] = make() end
  local ok, raised = pcall(function()
    if FULL then
      for _, mode in ipairs(list) do whole_mode(mode, open) end
    else
      sample(open, names)
    end
  end)
  for _, r in ipairs(open) do r:close() end
  local matrix, tsv = report(names, list)
  print(matrix)
  if FULL then write("crash-1.part", matrix) end
  if FULL then write("crash.tsv", tsv) end
  for _, mode in ipairs(list) do
    for point, what in pairs(cells[mode.name] or {}) do
      if type(what) == "string" then print(("FAIL at %s\n%s"):format(point, what)) end
    end
  end
  if not ok then error(raised, 0) end
  for _, mode in ipairs(list) do
    for point in pairs(cells[mode.name] or {}) do lu.assertEquals(cell(mode, point), "ok", point) end
  end
  for _, point in ipairs(os.getenv "TM_MODES" and {} or names) do
    lu.assertNotNil(where[point], "no transfer passes " .. point)
  end
end

local seed = tonumber(os.getenv "TM_SEED") or os.time()
print("TM_SEED=" .. seed)
math.randomseed(seed)
os.exit(lu.LuaUnit.run())
