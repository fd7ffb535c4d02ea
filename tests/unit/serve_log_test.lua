--- serve.log and serve.metrics: lines and pages.

local log = require "tidemill.serve.log"
local lu = require "luaunit"
local metrics = require "tidemill.serve.metrics"

TestLog = {}

local function written(plain, ...)
  local out = {}
  local one = log.new { plain = plain, wall = function() return 1767323045678 end,
    write = function(line) out[#out + 1] = line end }
  one:line(...)
  return table.concat(out)
end

function TestLog.test_a_line_is_json_in_a_fixed_order()
  lu.assertEquals(written(false, "info", "run", { state = "success", flow = "a \"b\"\n", unknown = 1, elapsed_ms = 12 }),
    '{"at":"2026-01-02T03:04:05.678Z","level":"info","event":"run","flow":"a \\"b\\"\\n","state":"success",'
    .. '"elapsed_ms":12}\n')
end

function TestLog.test_a_plain_line_quotes_what_has_blanks()
  lu.assertEquals(written(true, "warn", "slot", { state = "missed", flow = "two words", reason = "late\nby far" }),
    '2026-01-02T03:04:05.678Z warn  slot flow="two words" state=missed reason="late by far"\n')
end

function TestLog.test_bytes_that_are_no_text_do_not_break_a_line()
  lu.assertEquals(written(false, "info", "note", { message = "\xff" }),
    '{"at":"2026-01-02T03:04:05.678Z","level":"info","event":"note","message":"?"}\n')
end

TestMetrics = {}

local function text(change)
  local m = metrics.new { version = "1.2.3", started_ms = 1795422441383 }
  change(m)
  return m:text { runs = { queued = 3 }, oldest_ms = 1500, flows = 2, paused_flows = 1, attempts = 4, jobs = 8,
    lease_age_ms = 250, healthy = true }
end

function TestMetrics.test_counters_and_gauges()
  local page = text(function(m)
    m:slot("run", 1)
    m:slot("missed", 500)
    m:run_ended "failed"
    m:attempt_started()
  end)
  for _, line in ipairs { 'tidemill_build_info{version="1.2.3"} 1', 'tidemill_runs{state="queued"} 3',
    'tidemill_runs{state="running"} 0', "tidemill_queue_oldest_seconds 1.5", 'tidemill_slots_total{state="missed"} 500',
    'tidemill_runs_ended_total{state="failed"} 1', "tidemill_attempts_started_total 1", "tidemill_jobs 8",
    "tidemill_lease_age_seconds 0.25", "tidemill_up 1", "process_start_time_seconds 1795422441.383" } do
    lu.assertStrContains("\n" .. page, "\n" .. line .. "\n")
  end
  lu.assertEquals(page:sub(-6), "# EOF\n")
end

function TestMetrics.test_the_histogram_is_cumulative()
  local page = text(function(m)
    for _, ms in ipairs { 10, 60, 400, 7000, 90000000 } do m:run_started(ms) end
  end)
  for bound, n in pairs { ["0.05"] = 1, ["0.1"] = 2, ["0.5"] = 3, ["1.0"] = 3, ["10.0"] = 4, ["3600.0"] = 4, ["+Inf"] = 5 } do
    lu.assertStrContains(page, ('tidemill_slot_to_start_seconds_bucket{le="%s"} %d\n'):format(bound, n))
  end
  lu.assertStrContains(page, "tidemill_slot_to_start_seconds_count 5\n")
end

function TestMetrics.test_every_family_is_declared_once_before_its_samples()
  local declared = {}
  for line in text(function() end):gmatch "[^\n]+" do
    local name = line:match "^# TYPE (%S+)"
    if name then
      lu.assertNil(declared[name], name)
      declared[name] = true
    elseif line:sub(1, 1) ~= "#" then
      local sample = line:match "^[%w_]+"
      local family = declared[sample] and sample
      for _, tail in ipairs { "_total", "_info", "_bucket", "_count", "_sum" } do
        if sample:sub(-#tail) == tail and declared[sample:sub(1, -#tail - 1)] then family = sample end
      end
      lu.assertNotNil(family, line)
    end
  end
end

os.exit(lu.LuaUnit.run())
