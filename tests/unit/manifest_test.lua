--- Manifests: their names, the newest of them, and what a hostile one can do: nothing.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local manifest = require "tidemill.manifest"
local names = require "tidemill.manifest.names"
local oss = require "oss"

local tmp = (os.getenv "TM_TMP" or (os.getenv "TM_BUILD" or "build") .. "/tmp/manifest") .. "/pond"
local store

local function run(n) return ("20260302-0405%02d-abcdef"):format(n) end

local function who(n, attempt, business)
  return { node = "out", run = run(n), attempt = attempt or 1, business = business or 1772336706 }
end

local function object(number) return ("%s%06d.csv"):format(names.stem(who(1), 1, 1), number) end

local function head(id, fields)
  local h = { id = id, format = { compress = "none", format = "csv" }, columns = { { name = "a", type = "text" } } }
  for key, value in pairs(fields or {}) do h[key] = value end
  return h
end

local function commit(w, count, fields)
  local objects = {}
  for i = 1, count or 0 do
    objects[i] = { key = object(i), rows = 1, bytes = 4, raw_bytes = 4, crc64 = "1", etag = "e" }
  end
  manifest.write(store, "m/", head(names.id(w), fields), objects)
end

TestManifest = {}

function TestManifest.setUp()
  assert(os.execute(("rm -rf '%s' && mkdir -p '%s'"):format(tmp, tmp)))
  store = oss.open { url = "file://" .. (tmp:sub(1, 1) == "/" and tmp or os.getenv "PWD" .. "/" .. tmp) }
end
function TestManifest.tearDown() store:close() end

function TestManifest.test_the_newest_is_found_among_names_of_others()
  for _, name in ipairs { "20269901T000000Z-r-out-0001", "99999999T999999Z-r-out-0001", "20260301T000000Z-r-out-1",
    "20260301T000000Z-r-out-00001", "20260301T000000Z-r-out-0000", "x", "20260301T000000Z-r-OUT-0001",
    "20260301T000000Z-r-out-0001.json.bak", "deep/20270301T000000Z-r-out-0001" } do
    store:put(("m/_manifest/%s.json"):format(name), "{}")
    store:put("m/_manifest/" .. name .. "x", "{}")
  end
  lu.assertNil(manifest.newest(store, "m/"))
  for attempt = 1, 250 do manifest.close(store, "m/", names.id(who(1, attempt)), "sweep") end
  lu.assertNil(manifest.newest(store, "m/")) -- however many are closed
  for _, w in ipairs { who(1, 3, 0), who(2, 9999, 86400), who(2, 10000, 86400) } do
    commit(w)
    lu.assertEquals(manifest.newest(store, "m/"), names.id(w))
  end
  lu.assertEquals(manifest.open(store, "m/", "lake:m/").id, names.id(who(2, 10000, 86400)))
end

function TestManifest.test_a_place_is_taken_once()
  commit(who(1))
  lu.assertEquals(errors.from(select(2, pcall(commit, who(1)))).kind, "exists")
  lu.assertEquals({ manifest.close(store, "m/", names.id(who(1)), "sweep") }, { "committed" })
  lu.assertEquals({ manifest.close(store, "m/", names.id(who(2)), "attempt 2") }, { "closed", "attempt 2" })
  lu.assertEquals({ manifest.close(store, "m/", names.id(who(2)), "sweep") }, { "closed", "attempt 2" })
  lu.assertEquals(errors.from(select(2, pcall(commit, who(2)))).kind, "exists")
  lu.assertErrorMsgContains("closed by attempt 2", manifest.open, store, "m/", "lake:m/", names.id(who(2)))
end

function TestManifest.test_names_can_be_taken_apart_again()
  for _, node in ipairs { "out", "Orders to the Lake", "抽取订单", "a-b", ("n"):rep(200), "__", "a.b" } do
    local slug = names.slug(node)
    lu.assertStrMatches(slug, "[a-z0-9_]+")
    lu.assertTrue(#slug <= 60)
    local w = { node = node, run = run(7), attempt = 12, business = 1772336706 }
    local expected = { slug = slug, business = "20260301T034506Z", run = run(7), attempt = 12 }
    lu.assertEquals(names.parse_object(names.stem(w, 12, 3) .. "000001.txt.gz"), expected)
    lu.assertEquals(names.parse_id(names.id(w)), expected)
  end
  lu.assertEquals(names.slug "Orders to the Lake", "orders_to_the_lake")
  lu.assertNotEquals(names.slug "抽取订单", names.slug "抽取客户")
  lu.assertNotEquals(names.slug "a.b", names.slug "a b")
end

function TestManifest.test_many_objects_cost_no_memory()
  commit(who(1), 20000)
  collectgarbage()
  collectgarbage()
  local before, most, count = collectgarbage "count", 0, 0
  local m = manifest.open(store, "m/", "lake:m/")
  lu.assertEquals({ m.object_count, m.rows, m.bytes, m.text }, { 20000, 20000, 80000 })
  for one in m:objects() do
    count = count + 1
    if count % 1000 == 0 then most = math.max(most, collectgarbage "count" - before) end
    lu.assertEquals(one.key, object(count))
  end
  lu.assertEquals(count, 20000)
  lu.assertTrue(most < 12000, most) -- KiB: garbage of the reading, not the objects
end

-- ---- hostile ones ----

local function refused(fields, why)
  local id = names.id(who(1))
  pcall(store.delete, store, names.key("m/", id))
  commit(who(1), 1, fields)
  lu.assertErrorMsgContains(why, manifest.look, store, "m/", id)
end

function TestManifest.test_types_are_those_that_postgresql_writes()
  for _, type in ipairs { "text", "numeric(12,3)", "numeric(5,-2)", "timestamp(3) with time zone", "character varying(20)[]",
    '"char"', 'public."My; Type"[]', "interval day to second(3)", "geometry(Point,4326)", "žlutý", "bit varying(5)" } do
    pcall(store.delete, store, names.key("m/", names.id(who(1))))
    commit(who(1), 1, { columns = { { name = "a", type = type } } })
    lu.assertEquals(manifest.look(store, "m/", names.id(who(1))).columns[1].type, type)
  end
  for _, type in ipairs { "", " ", "text); DROP TABLE t", "text, b int", "text -- ", "int /* */", "text(1--2)", 'te"xt',
    "text(1", "text)", "text DEFAULT 'x'", "text(1;2)", "int\0", "a(b(c))" } do
    refused({ columns = { { name = "a", type = type } } }, "has the type")
  end
end

function TestManifest.test_what_ends_up_in_sql_is_checked()
  refused({ format = { compress = "none", format = "csv); DROP TABLE t; --" } }, "unknown format")
  refused({ format = { compress = "none" } }, "unknown format")
  refused({ format = { compress = "none", format = "csv", delimiter = 1 } }, "'delimiter' is not a string")
  refused({ format = { compress = "none", format = "csv", null = "\0" } }, "'null' has a zero byte")
  refused({ format = { compress = "none", format = "csv", header = "yes" } }, "'header' is not a boolean")
  refused({ columns = { { name = "", type = "text" } } }, "no usable name")
  refused({ columns = { 1 } }, "a column is not a table")
end

function TestManifest.test_a_head_cannot_put_objects_in_the_place_of_those_that_were_checked()
  commit(who(1), 2, { text = "{}\n]}\n", where = "x", store = "x", first_key = "x", etag = "x", objects_ = "x" })
  local m, count = manifest.look(store, "m/", names.id(who(1))), 0
  for one in m:objects() do
    count = count + 1
    lu.assertEquals(one.key, object(count))
  end
  lu.assertEquals({ count, m.where, m.first_key }, { 2, names.key("m/", names.id(who(1))), object(1) })
end

-- With a byte changed, cut, with a piece taken out, or one put in.
local function damaged(good)
  local at, how = math.random(#good), math.random(4)
  if how == 1 then return good:sub(1, at - 1) .. string.char(math.random(0, 255)) .. good:sub(at + 1) end
  if how == 2 then return good:sub(1, at) end
  if how == 3 then return good:sub(1, at) .. good:sub(math.random(#good)) end
  return good:sub(1, at - 1) .. ('{}[]",:\n-9'):sub(math.random(10)) .. good:sub(at)
end

function TestManifest.test_any_change_of_a_byte_is_harmless_or_refused()
  local id = names.id(who(1))
  local key = names.key("m/", id)
  commit(who(1), 3, { source = { query = "SELECT 1" } })
  local good = store:get(key)
  math.randomseed(7)
  local refusals = 0
  for _ = 1, 1500 do
    local bad = damaged(good)
    store:put(key, bad)
    local ok, m, by = pcall(manifest.look, store, "m/", id)
    if ok then
      lu.assertNil(by)
      local rows = 0
      for one in m:objects() do rows = rows + one.rows end
      lu.assertEquals(rows, m.rows)
    else
      refusals = refusals + 1
      lu.assertEquals(errors.from(m).kind, "integrity", bad .. tostring(m))
    end
  end
  lu.assertTrue(refusals > 700, refusals)
end

os.exit(lu.LuaUnit.run())
