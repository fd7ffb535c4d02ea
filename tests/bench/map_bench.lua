-- Rows a second through stream.map, 7 columns, on one core for the map. Prints one line a case.
-- `build/tidemill exec tests/bench/map_bench.lua [ROWS]`
local stream = require "stream"

local rows = math.tointeger(arg and arg[1] or 200000)
local repeats = 5

local function sample(quoted)
  local t = {}
  for i = 1, rows do
    t[i] = ("%d,%d,%d.%02d,2024-03-%02d 10:11:12.5+08,%s,%s,item %d\n"):format(i, i % 977,
      i % 10000, i % 100, i % 28 + 1, i % 7 == 0 and "" or "open",
      quoted and ('"say ""%d"", twice"'):format(i) or "plain text " .. i % 100, i % 1000)
  end
  return table.concat(t)
end

local columns = { "id", "customer", "amount", "at", "status", "note", "item" }

local function bench(name, bytes, fn, opts)
  local best = 0
  opts = opts or {}
  opts.columns = columns
  for _ = 1, repeats do
    local sink <close> = stream.discard()
    local source <close> = stream.bytes(bytes, rows)
    local stage <close> = stream.map(fn, opts)
    local start = os.clock()
    stream.pump(source, stage, sink)
    best = math.max(best, rows / (os.clock() - start))
  end
  print(("%-44s %10.0f rows/s of CPU"):format(name, best))
end

local plain, quoted = sample(false), sample(true)

bench("csv, one field read, kept", plain, function(row)
  if row.status ~= "void" then return row end
end)
bench("csv, two fields read, half dropped", plain, function(row)
  if row.status == "open" and row.customer > "5" then return row end
end)
bench("csv, one field changed", plain, function(row)
  row.status = "done"
  return row
end)
bench("csv with quotes, one field read, kept", quoted, function(row)
  if row.status ~= "void" then return row end
end)
bench("csv to text, one field read", plain, function(row)
  if row.status ~= "void" then return row end
end, { output = { format = "text" } })
bench("csv, every row a new table", plain, function(row)
  return { row.id, row.customer, row.amount, row.at, row.status, row.note, row.item }
end)
