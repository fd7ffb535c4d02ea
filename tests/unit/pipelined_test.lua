--- pipelined: which loads take objects while their extract runs, and how that is said.

local check = require "tidemill.check"
local desk = require "tests.support.desk"
local document = require "tidemill.document"
local lu = require "luaunit"

TestPipelined = {}

local d

function TestPipelined.setUp()
  d = desk.new "pipelined"
  d:project()
end

function TestPipelined.tearDown() d:close() end

local X = [[flow.extract "x" { from = "rds", query = "SELECT 1 AS a", to = "lake:o/${day}/" },]]

-- A load behind x with more fields; `more` are more nodes and settings.
local function flow_of(fields, more)
  return ([[vars = { day = flow.time "yyyyMMdd", place = "lake:o/${day}" }, %s %s
flow.load "l" { from = "lake:o/${day}/", on = "adbpg", into = "t", after = "x", %s },]]):format(X, more or "", fields or "")
end

-- The node l of a checked flow.
local function load_of(fields, more)
  local model = check.flow(d:flow("f.lua", flow_of(fields, more)))
  return model.by_name.l, model
end

function TestPipelined.test_a_load_right_behind_an_extract_to_its_place_is_pipelined()
  local node, model = load_of()
  lu.assertEquals({ node.pipeline, node.no_pipeline }, { "x" })
  for _, one in ipairs(document.of(model).nodes) do
    lu.assertEquals(one.pipeline, one.name == "l" and "x" or nil)
  end
  lu.assertEquals(load_of("pipeline = true").pipeline, "x")
  lu.assertEquals(load_of('retries = 2, timeout = "1m", pool = "heavy", jobs = 4').pipeline, "x")
end

function TestPipelined.test_one_place_may_be_written_in_two_ways()
  lu.assertEquals(load_of('from = "${place}"').pipeline, "x")
  lu.assertEquals(load_of('from = "lake:o/${own}", vars = { own = flow.time "yyyyMMdd" }').pipeline, "x")
end

function TestPipelined.test_other_nodes_before_it_do_no_harm()
  lu.assertEquals(load_of('after = { "x", "ddl" }', 'flow.sql "ddl" { on = "adbpg", sql = "SELECT 1" },').pipeline, "x")
end

-- Fields of the load, more nodes, and why it is not pipelined.
local NOT = {
  { "pipeline = false", nil, "pipeline is false" },
  { 'after = {}', nil, "it is after no extract" },
  { 'after = "s"', 'flow.sql "s" { after = "x", on = "rds", sql = "SELECT 1" },', "it is after no extract" },
  { 'trigger = "all_done"', nil, "its trigger is all_done" },
  { 'when = "${day} > 1"', nil, "it has a 'when'" },
  { 'from = "lake:other/"', nil, "'x' writes to lake:o/${day}/, and it reads lake:other/" },
  -- the same on the day that the check looks at first
  { 'from = "lake:o/20240314/"', nil, "'x' writes to lake:o/${day}/, and it reads lake:o/20240314/" },
  { 'after = { "x", "y" }', 'flow.extract "y" { from = "rds", query = "SELECT 2 AS a", to = "lake:p/" },',
    "it is after two extracts, 'x' and 'y'" },
  { 'after = { "x", "s" }', [[flow.extract "y" { from = "rds", query = "SELECT 2 AS a", to = "lake:o/${day}" },
    flow.sql "s" { after = "y", on = "rds", sql = "SELECT 1" },]], "'y' before it is about data in the same place" },
  { 'after = { "x", "w" }', 'flow.wait_for "w" { extracted = "lake:o/${day}/" },',
    "'w' before it is about data in the same place" },
  { 'after = "y", from = "lake:y/"', 'flow.extract "y" { from = "rds", table = "t", to = "lake:y/", objects = 4 },',
    "'y' completes all of its objects at its end" },
  { 'into = "t_${x.rows}"', nil, "it uses ${x.rows}, which is known when 'x' has ended" },
  { 'vars = { n = "${x.status}" }, into = "t_${n}"', nil, "it uses ${x.status}, which is known when 'x' has ended" },
}

function TestPipelined.test_what_speaks_against_it_is_said()
  for _, case in ipairs(NOT) do
    local node = load_of(case[1], case[2])
    lu.assertEquals({ node.pipeline, node.no_pipeline }, { nil, case[3] }, case[1])
  end
end

function TestPipelined.test_one_that_must_be_and_cannot_is_a_fault_of_the_flow()
  for i = 2, #NOT do
    local case = NOT[i]
    d:flow("f.lua", flow_of(case[1] .. ", pipeline = true", case[2]))
    local r = d:run("check", "f.lua")
    lu.assertEquals(r.code, 2, r.all)
    lu.assertStrContains(r.err, "node 'l' cannot take objects while an extract runs, since " .. case[3])
  end
end

function TestPipelined.test_check_and_plan_say_it()
  d:flow("f.lua", flow_of())
  lu.assertStrContains(d:run("check", "f.lua").out, "2 nodes (1 pipelined), no schedule")
  local out = d:run("plan", "f.lua").out
  lu.assertStrContains(out, "-> adbpg t, while 'x' runs)")
  lu.assertStrContains(out, "pipeline     takes objects while 'x' runs, commits once that has succeeded")
  lu.assertStrContains(d:run("plan", "f.lua", "--json").out, '"pipeline":"x"')
  d:flow("f.lua", flow_of 'when = "${day} > 1"')
  lu.assertStrContains(d:run("plan", "f.lua").out, "pipeline     no, since it has a 'when'")
  lu.assertStrContains(d:run("check", "f.lua").out, "2 nodes, no schedule")
  d:flow("f.lua", flow_of("after = {}"))
  lu.assertNotStrContains(d:run("plan", "f.lua").out, "pipeline ")
end

os.exit(lu.LuaUnit.run())
