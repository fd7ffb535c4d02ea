-- needs: ossd radosgw
--- Sweeping: what failed attempts left goes, and nothing else, whatever the store.

local errors = require "tidemill.errors"
local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local manifest = require "tidemill.manifest"
local names = require "tidemill.manifest.names"
local oss = require "oss"
local present = require "tidemill.manifest.present"
local state = require "tidemill.state"
local sweep = require "tidemill.sweep"

local HOUR, DAY = 3600000, 86400000
local l

-- Ids as runs have them.
local function run(n) return ("20260302-0405%02d-abcdef"):format(n) end

local function who(n, attempt) return { node = "out", run = run(n), attempt = attempt or 1, business = 1772336706 } end

local function object(n, attempt, number, suffix)
  return ("%s%06d%s"):format(names.stem(who(n, attempt), attempt or 1, 1), number or 1, suffix or ".csv")
end

local function listed(key, bytes)
  return { key = key, rows = 1, bytes = bytes or 4, raw_bytes = bytes or 4, crc64 = "1", etag = "e" }
end

local function commit(store, folder, w, keys)
  local objects = {}
  for i, key in ipairs(keys) do objects[i] = listed(key) end
  manifest.write(store, folder, { id = names.id(w), format = { compress = "none", format = "csv" },
    columns = { { name = "a", type = "text" } } }, objects)
end

local function keys_of(store, prefix)
  local found = {}
  for entry in store:list { prefix = prefix } do
    if not entry.key:find("_manifest/", 1, true) then found[#found + 1] = entry.key end
  end
  return found
end

local function sort(list)
  table.sort(list)
  return list
end

-- Sweeps; what was told, by run and attempt: "removed objects/uploads", "kept objects/uploads".
local function swept(store, options)
  local told = {}
  local all = { path = "", older_ms = DAY, now_ms = os.time() * 1000 + 2 * HOUR, tell = function(left)
    local id = ("%s%d/%d"):format(left.folder, tonumber(left.run:match "05(%d%d)%-"), left.attempt)
    told[id] = ("%s %d/%d"):format(left.removed and "removed" or "kept", left.objects, left.uploads)
  end }
  for key, value in pairs(options or {}) do all[key] = value end
  sweep.place(store, all)
  return told
end

-- Run 1 is over, run 2 goes on, of run 3 and others nobody knows.
local function over(name)
  if name.run == run(1) then return true end
  if name.run == run(2) then return false, "its run is running" end
end

local open = {}

function open.ossd() return lab.empty(l:lake("lake", "lab-sweep")) end

function open.radosgw()
  local store = oss.open { url = "s3://lab-sweep", endpoint = os.getenv "TM_S3", access_key_id = os.getenv "TM_S3_ID",
    access_key_secret = os.getenv "TM_S3_SECRET" }
  store:create_bucket()
  return lab.empty(store)
end

function open.file()
  assert(os.execute(("mkdir -p '%s/pond'"):format(l.dir)))
  return lab.empty(oss.open { url = ("file://%s/pond"):format(l.dir) })
end

TestSweep = {}

function TestSweep.setUp() l = lab.new "sweep" end
function TestSweep.tearDown() l:close() end

local function in_every_store(body)
  for _, kind in ipairs { "ossd", "radosgw", "file" } do
    local store <close> = open[kind]()
    body(store, kind)
  end
end

function TestSweep.test_only_what_no_manifest_lists_goes()
  in_every_store(function(store, kind)
    local kept = { "a/" .. object(1), "a/" .. object(1, 1, 2), "a/" .. object(2), "a/" .. object(3), "b/" .. object(1),
      "a/report.csv", "a/out-1-2-000001.csv", "a/" .. object(1, 2):gsub("%.csv", ".csv.bak"),
      "a/" .. object(1, 2):gsub("20260302", "20260302x"), "a/" .. object(1, 2):gsub("000001", "00001"),
      "a/" .. object(1, 2):gsub("20260301T", "20261301T"), "a/" .. object(1, 2):gsub("csv", "tsv"), "z.csv" }
    local gone = { "a/" .. object(1, 1, 3), "a/" .. object(1, 2), "a/" .. object(1, 2, 2, ".csv.gz"),
      object(1, 3, 1, ".txt.zst"), "a/deep/" .. object(1) }
    for _, key in ipairs(kept) do store:put(key, "1234") end
    for _, key in ipairs(gone) do store:put(key, "1234") end
    commit(store, "a/", who(1), { object(1), object(1, 1, 2) })
    commit(store, "b/", who(3), { object(1) }) -- another attempt's: it is listed, and stays
    for _, key in ipairs { "a/" .. object(1, 2, 9), "a/" .. object(2, 1, 9), "a/theirs", names.key("a/", names.id(who(1, 5))),
      "c/" .. object(1, 1) } do
      store:create_multipart(key)
    end

    local expected = { ["a/1/1"] = "removed 1/0", ["a/1/2"] = "removed 2/1", ["a/1/5"] = "removed 0/1",
      ["1/3"] = "removed 1/0", ["a/deep/1/1"] = "removed 1/0", ["c/1/1"] = "removed 0/1", ["a/2/1"] = "kept 1/1",
      ["a/3/1"] = "kept 1/0" }
    lu.assertEquals(swept(store, { over = over, dry_run = true }), expected, kind)
    lu.assertEquals(#keys_of(store, ""), #kept + #gone, kind)
    lu.assertNil(manifest.state(store, "a/", names.id(who(1, 2))))

    lu.assertEquals(swept(store, { over = over }), expected, kind)
    lu.assertEquals(keys_of(store, ""), sort(kept), kind)
    local left = {}
    for _, upload in ipairs(store:list_multiparts "") do left[#left + 1] = upload.key end
    lu.assertEquals(sort(left), sort { "a/" .. object(2, 1, 9), "a/theirs" }, kind)
    lu.assertEquals(swept(store, { over = over }), { ["a/2/1"] = "kept 1/1", ["a/3/1"] = "kept 1/0" }, kind)
    lab.empty(store)
  end)
end

function TestSweep.test_what_was_swept_can_never_be_committed()
  in_every_store(function(store, kind)
    store:put(object(1), "1234")
    lu.assertEquals(swept(store, { over = over }), { ["1/1"] = "removed 1/0" }, kind)
    local ok, raised = pcall(commit, store, "", who(1), { object(1) })
    lu.assertEquals({ ok, errors.from(raised).kind }, { false, "exists" }, kind)
    lu.assertEquals({ manifest.state(store, "", names.id(who(1))) }, { "closed", "sweep" }, kind)
    lu.assertNil(manifest.newest(store, ""), kind)
    lab.empty(store)
  end)
end

function TestSweep.test_of_a_run_that_nobody_knows_the_newest_write_tells()
  local store <close> = open.ossd()
  store:put("d/" .. object(3), "1234")
  store:put("d/" .. object(4), "1234")
  store:create_multipart("d/" .. object(4, 1, 2))
  local now = os.time() * 1000
  lu.assertEquals(swept(store, { now_ms = now + DAY - 60000 }), { ["d/3/1"] = "kept 1/0", ["d/4/1"] = "kept 1/1" })
  lu.assertEquals(swept(store, { path = "e/", now_ms = now + 2 * DAY }), {})
  local function is_over() return true end
  lu.assertEquals(swept(store, { now_ms = now + HOUR - 60000, over = is_over }), -- may be a copy under way
    { ["d/3/1"] = "kept 1/0", ["d/4/1"] = "kept 1/1" })
  lu.assertEquals(swept(store, { now_ms = now + HOUR + 60000, over = is_over, dry_run = true }),
    { ["d/3/1"] = "removed 1/0", ["d/4/1"] = "removed 1/1" })
  lu.assertEquals(swept(store, { path = "d/", now_ms = now + DAY + 60000, over = over }),
    { ["d/3/1"] = "removed 1/0", ["d/4/1"] = "removed 1/1" })
end

function TestSweep.test_what_a_successor_takes_over_stays_while_it_may_use_it()
  local store <close> = open.ossd()
  for number = 1, 3 do store:put(object(2, 1, number), "1234") end
  manifest.close(store, "", names.id(who(2)), "attempt 2")
  lu.assertEquals(swept(store, { over = over }), { ["2/1"] = "kept 3/0" })
  commit(store, "", who(2, 2), { object(2, 1, 1), object(2, 1, 3) })
  lu.assertEquals(swept(store, { over = over }), { ["2/1"] = "removed 1/0" })
  lu.assertEquals(keys_of(store, ""), { object(2, 1, 1), object(2, 1, 3) })
end

function TestSweep.test_an_attempt_closes_those_before_it_and_keeps_what_it_takes_over()
  in_every_store(function(store, kind)
    for attempt = 1, 3 do
      store:put("p/" .. object(3, attempt), "1234")
      store:put("p/" .. object(3, attempt, 2), "1234")
    end
    commit(store, "p/", who(3, 2), { object(3, 2) })
    store:create_multipart("p/" .. object(3, 1, 3))
    lu.assertEquals(sweep.older(store, "p/", who(3, 3), { [object(3, 1, 2)] = true }), { objects = 1, uploads = 1 }, kind)
    lu.assertEquals(keys_of(store, ""), { "p/" .. object(3, 1, 2), "p/" .. object(3, 2), "p/" .. object(3, 2, 2),
      "p/" .. object(3, 3), "p/" .. object(3, 3, 2) }, kind)
    lu.assertEquals({ manifest.state(store, "p/", names.id(who(3, 1))) }, { "closed", "attempt 3" }, kind)
    lu.assertNil(manifest.state(store, "p/", names.id(who(3, 3))), kind)
    lab.empty(store)
  end)
end

function TestSweep.test_a_manifest_that_cannot_be_read_protects_its_folder()
  local store <close> = open.ossd()
  store:put("a/" .. object(1), "1234")
  store:put("b/" .. object(1), "1234")
  store:put(names.key("a/", names.id(who(9))), "{}")
  lu.assertEquals(swept(store, { over = over }), { ["a/1/1"] = "kept 1/0", ["b/1/1"] = "removed 1/0" })
end

function TestSweep.test_replaced_data_goes_only_when_asked_for()
  in_every_store(function(store, kind)
    local function data(folder, w, more)
      store:put(folder .. object(tonumber(w.run:match "05(%d%d)%-"), w.attempt), "1234")
      commit(store, folder, w, { object(tonumber(w.run:match "05(%d%d)%-"), w.attempt), table.unpack(more or {}) })
    end
    store:put("a/" .. object(3, 1, 2), "1234")
    data("a/", who(1), {})
    data("a/", who(2))
    data("a/", who(3), { object(3, 1, 2) })
    manifest.close(store, "a/", names.id(who(1, 2)), "attempt 3")
    store:put("a/report.csv", "1234")
    commit(store, "a/", who(5), { object(3, 1, 2), "report.csv" }) -- lists what others have written
    data("a/", who(8))
    manifest.close(store, "a/", names.id(who(9)), "sweep")
    data("b/", who(1))
    local all, now = keys_of(store, ""), os.time() * 1000
    local old = { over = over, now_ms = now + 9 * DAY }
    lu.assertEquals(swept(store, old), {}, kind)
    lu.assertEquals(swept(store, { over = over, now_ms = now, replaced_ms = DAY }), {}, kind)
    old.replaced_ms, old.dry_run = 8 * DAY, true
    local expected = { ["a/1/1"] = "removed 1/0", ["a/3/1"] = "removed 1/0", ["a/5/1"] = "removed 1/0" }
    expected["a/5/1"] = "removed 0/0" -- with it, what the third run listed too goes as that one's
    lu.assertEquals(swept(store, old), expected, kind)
    lu.assertEquals(keys_of(store, ""), all, kind)
    old.dry_run = nil
    expected["a/3/1"] = "removed 2/0"
    lu.assertEquals(swept(store, old), expected, kind)
    lu.assertEquals(keys_of(store, ""), { "a/" .. object(2), "a/" .. object(8), "a/report.csv",
      "b/" .. object(1) }, kind)
    lu.assertEquals(manifest.list(store, "a/"), { names.id(who(8)), names.id(who(2)) }, kind)
    lu.assertEquals(swept(store, old), {}, kind)
    lab.empty(store)
  end)
end

function TestSweep.test_many_are_removed_in_batches()
  local store <close> = open.ossd()
  for i = 1, 1005 do store:put(object(3, 1, i), "x") end
  lu.assertEquals(sweep.older(store, "", who(3, 2)), { objects = 1005, uploads = 0 })
  for i = 1, 1100 do store:put(object(1, 1, i), "x") end
  lu.assertEquals(swept(store, { over = over }), { ["1/1"] = "removed 1100/0" })
  lu.assertEquals(keys_of(store, ""), {})
end

-- ---- manifests ----

function TestSweep.test_objects_of_a_manifest_are_compared_with_a_listing()
  in_every_store(function(store, kind)
    local w, objects = who(1), {}
    for i = 1, 30 do
      local key = object(1, 1, i)
      local info = store:put("q/" .. key, "1234")
      objects[i] = listed(key)
      objects[i].etag = info.etag or store:head("q/" .. key).etag
    end
    manifest.write(store, "q/", { id = names.id(w), format = { compress = "none", format = "csv" },
      columns = { { name = "a", type = "text" } } }, objects)
    local m = manifest.open(store, "q/", "lake:q/")
    present.check(m)
    present.check_list(store, "q/", { objects[9], objects[30], objects[1] })
    present.check_list(store, "q/", { objects[2] })
    present.check_list(store, "q/", {})
    lu.assertErrorMsgContains("is missing", present.check_list, store, "q/", { objects[3], listed(object(2)) })
    store:put("q/" .. object(1, 1, 30), "1235")
    lu.assertErrorMsgContains("was replaced", present.check, m)
    store:put("q/" .. object(1, 1, 20), "12345")
    lu.assertErrorMsgContains("has 5 bytes, its manifest says 4", present.check, m)
    store:delete("q/" .. object(1, 1, 10))
    lu.assertErrorMsgContains(object(1, 1, 10) .. "' of the manifest is missing", present.check, m, kind)
    lab.empty(store)
  end)
end

-- ---- the command ----

function TestSweep.test_the_command_asks_the_state_store()
  local lake = open.ossd()
  l:project()
  l:flow("good.lua", [[flow.shell "out" { command = "true" },]])
  l:flow("bad.lua", [[flow.shell "out" { command = "false" },]])
  lu.assertEquals(l:run("run", "good.lua").code, 0)
  lu.assertEquals(l:run("run", "bad.lua").code, 1)
  local ids = {}
  do
    local store <close> = state.open("sqlite:.tidemill/state.db", { directory = l.dir })
    for _, row in ipairs(store:runs {}) do ids[row.state] = row.id end
    lake:put("d/" .. names.stem({ node = "out", run = ids.success, business = 0 }, 1, 1) .. "000001.csv", "1234")
    lake:put("d/" .. names.stem({ node = "out", run = ids.failed, business = 0 }, 1, 1) .. "000001.csv", "12345")
    lake:put("d/" .. object(8), "123456")
  end
  local r = l:run("sweep", "lake:d")
  lu.assertStrContains(r.out, ("kept    d/out, run %s, attempt 1: 1 object (4 B); its run is over, but it is new")
    :format(ids.success))
  lu.assertStrContains(r.out, "removed: nothing\n")
  l:write("later.lua", [[
    local sweep = require "tidemill.sweep"
    local place = sweep.place
    function sweep.place(store, options)
      options.now_ms = options.now_ms + 2 * 3600 * 1000
      return place(store, options)
    end
    os.exit(require "tidemill.main".run { "sweep", table.unpack(arg) })]])
  r = l:run("exec", "later.lua", "lake:d", "--dry-run")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(r.out, ("would   d/out, run %s, attempt 1: 1 object (4 B)"):format(ids.success))
  lu.assertStrContains(r.out, ("kept    d/out, run %s, attempt 1: 1 object (5 B); its run failed and may be restored")
    :format(ids.failed))
  lu.assertStrContains(r.out, "nobody here knows its run")
  lu.assertStrContains(r.out, "would remove: 1 object (4 B)\n")
  r = l:run("exec", "later.lua", "lake:", "--json")
  local told = json.decode(r.out)
  lu.assertEquals({ told.objects, told.bytes, told.kept, #told.attempts, told.dry_run }, { 1, 4, 2, 3, false })
  r = l:run("sweep", "lake:d/", "--older", "0s")
  lu.assertStrContains(r.out, "removed: 2 objects (11 B)\n")
  lu.assertEquals(keys_of(lake, ""), {})
  lu.assertEquals(l:run("sweep", "lake:d/").out, "removed: nothing\n")
  lu.assertEquals(l:run("sweep", "lake:d/", "--older", "x").code, 2)
  lu.assertEquals(l:run("sweep", "d/").code, 2)
  lu.assertEquals(l:run("sweep", "pond:d/").code, 2)
  lu.assertStrContains(l:run("complete", "sweep", "").out, "lake:")

  lake:put("d/" .. object(8), "1")
  lake:put(names.key("d/", names.id(who(9))), "{}")
  r = l:run("sweep", "lake:d/", "--older", "0s")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.out, "is not usable")
end

function TestSweep.test_a_run_that_goes_on_is_left_alone()
  local lake = open.ossd()
  l:project()
  l:flow("slow.lua", [[flow.shell "out" { command = "true" }, flow.shell "other" { command = "true" },]])
  lu.assertEquals(l:run("run", "slow.lua").code, 0)
  local store <close> = state.open("sqlite:.tidemill/state.db", { directory = l.dir })
  local id = store:find_run "last".id
  store.db:exec("UPDATE runs SET state = 'running' WHERE id = ?", id)
  store.db:exec("UPDATE nodes SET state = 'running' WHERE run_id = ? AND node = 'other'", id)
  for _, node in ipairs { "out", "other" } do
    lake:put(names.stem({ node = node, run = id, business = 0 }, 1, 1) .. "000001.csv", "1234")
  end
  local r = l:run("sweep", "lake:", "--older", "0s")
  lu.assertStrContains(r.out, ("removed out, run %s"):format(id))
  lu.assertStrContains(r.out, ("kept    other, run %s, attempt 1: 1 object (4 B); its run is running"):format(id))
end

os.exit(lu.LuaUnit.run())
