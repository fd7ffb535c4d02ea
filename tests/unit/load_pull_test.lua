--- lua/load/pull.lua: what a database is sent that reads objects by oss_fdw, ours or AnalyticDB's. There is no
--- AnalyticDB at hand: its statements are compared here, text for text.

local create = require "tidemill.load.create"
local lu = require "luaunit"
local oss = require "oss"
local pull = require "tidemill.load.pull"

local STORE = { protocol = "oss", bucket = "my-bucket", prefix = "", endpoint = "https://oss-cn-x-internal.aliyuncs.com",
  region = "cn-x", addressing = "virtual", signature = "v4", id = "the-id", secret = "the-secret" }

local function store(over)
  local to = {}
  for key, value in pairs(STORE) do to[key] = value end
  for key, value in pairs(over or {}) do to[key] = value end
  return to
end

TestPullStatements = {}

function TestPullStatements.test_analyticdb_is_given_endpoint_and_bucket_as_its_manual_has_them()
  lu.assertEquals(pull.server("s", store(), "adbpg"), [[CREATE SERVER "s" FOREIGN DATA WRAPPER oss_fdw ]]
    .. [[OPTIONS (endpoint 'oss-cn-x-internal.aliyuncs.com', bucket 'my-bucket')]])
end

function TestPullStatements.test_our_extension_is_told_all_that_the_store_uses()
  lu.assertEquals(pull.server("s", store(), "ours"), [[CREATE SERVER "s" FOREIGN DATA WRAPPER oss_fdw OPTIONS ]]
    .. [[(endpoint 'https://oss-cn-x-internal.aliyuncs.com', bucket 'my-bucket', protocol 'oss', region 'cn-x', ]]
    .. [[addressing 'virtual', signature 'v4')]])
  local open = store { protocol = "s3", signature = "none" }
  open.id, open.secret = nil, nil
  lu.assertStrContains(pull.server("s", open, "ours"), "addressing 'virtual', anonymous 'true')")
end

function TestPullStatements.test_no_statement_has_a_key()
  for _, sql in ipairs { pull.server("s", store(), "adbpg"), pull.server("s", store(), "ours"), pull.mapping "s",
    pull.keys "greenplum", pull.keys "postgresql" } do
    lu.assertNotStrContains(sql, "the-id")
    lu.assertNotStrContains(sql, "the-secret")
  end
  lu.assertStrContains(pull.mapping "it's", "'it''s', k.id, k.secret")
end

function TestPullStatements.test_the_foreign_table_has_the_targets_types_and_the_manifests_format()
  local format = { format = "csv", compress = "gzip", delimiter = "|", null = "", quote = '"', escape = '"',
    header = true, encoding = "UTF8" }
  local columns = { { quoted = '"id"', type = "bigint" }, { quoted = '"note"', type = "character varying(9)" } }
  lu.assertEquals(pull.table("tidemill.p", "s", columns, { "prefix", "x/out-1-" }, format),
    'CREATE FOREIGN TABLE tidemill.p (\n  "id" bigint,\n  "note" character varying(9)\n) SERVER "s" OPTIONS '
    .. "(prefix 'x/out-1-', format 'csv', filetype 'gzip', delimiter '|', null '', quote '\"', escape '\"', "
    .. "header 'true', encoding 'UTF8')")
  format = { format = "text", compress = "none", delimiter = "\t", null = "\\N", encoding = "UTF8" }
  lu.assertStrContains(pull.table("tidemill.p", "s", columns, { "filepath", "it's" }, format, "other"),
    "(filepath 'it''s', bucket 'other', format 'text', filetype 'plain', delimiter '\t', null  E'\\\\N', encoding 'UTF8')")
end

function TestPullStatements.test_a_foreign_table_is_pointed_elsewhere()
  lu.assertEquals(pull.point("t", "prefix", { "prefix", "b" }), "ALTER FOREIGN TABLE t OPTIONS (SET prefix 'b')")
  lu.assertEquals(pull.point("t", "prefix", { "filepath", "b" }),
    "ALTER FOREIGN TABLE t OPTIONS (DROP prefix, ADD filepath 'b')")
end

function TestPullStatements.test_identity_columns_are_filled_as_a_copy_fills_them_where_there_are_any()
  lu.assertEquals(pull.insert("t", '"a", "b"', "f", 150000),
    'INSERT INTO t ("a", "b") OVERRIDING SYSTEM VALUE SELECT "a", "b" FROM f')
  lu.assertEquals(pull.insert("t", '"a"', "f", 90426), 'INSERT INTO t ("a") SELECT "a" FROM f')
end

local function manifest(keys)
  return { objects = function()
    local i = 0
    return function()
      i = i + 1
      return keys[i] and { key = keys[i], rows = 10 }
    end
  end }
end

TestPullGroups = {}

function TestPullGroups.test_objects_are_grouped_by_the_attempt_that_wrote_them()
  local run = "out-20260101T000000Z-20260101-000000-abcdef-"
  local groups = pull.groups(manifest { run .. "1-1-000001.csv.gz", run .. "1-2-000001.csv.gz", run .. "2-1-000001.csv.gz" })
  lu.assertEquals(groups, { { stem = run .. "1-", objects = 2, rows = 20 }, { stem = run .. "2-", objects = 1, rows = 10 } })
end

function TestPullGroups.test_names_that_no_extract_gives_are_no_group()
  lu.assertNil(pull.groups(manifest { "out-20260101T000000Z-20260101-000000-abcdef-1-1-000001.csv", "part.csv" }))
end

function TestPullGroups.test_an_uneven_number_of_objects_is_told()
  lu.assertNil(pull.unevenness(8, 8))
  lu.assertNil(pull.unevenness(16, 8))
  lu.assertNil(pull.unevenness(95, 8))
  lu.assertNil(pull.unevenness(0, 8))
  lu.assertStrContains(pull.unevenness(9, 8), "9 objects for 8 segments")
  lu.assertStrContains(pull.unevenness(1, 8), "objects = 8 makes them even")
end

-- ---- a whole load, as a Greenplum would see it ----

local RUN = "out-20260101T000000Z-20260101-000000-abcdef-1-"

-- Answers what is asked of it by the beginning of the statement, and keeps what it is told.
local function greenplum(answers)
  local conn = { said = {}, data = {} }
  local function answer(sql)
    for begin, value in pairs(answers) do
      if sql:find(begin, 1, true) then return value end
    end
  end
  function conn.flavor() return "greenplum" end
  function conn.server_version() return 90426 end
  function conn.state() return "transaction" end
  function conn.transaction()
    return setmetatable({ commit = function() end, rollback = function() end }, { __close = function() end })
  end
  function conn.value(_, sql) return answer(sql) end
  function conn.one(_, sql) return answer(sql) end
  function conn.exec(_, sql) table.insert(conn.said, sql) end
  function conn.query(_, sql)
    if sql:find "^INSERT" then table.insert(conn.said, sql) end
    return answer(sql) or {}
  end
  function conn.copy_in(_, sql)
    table.insert(conn.said, sql)
    return setmetatable({ write = function(_, bytes) table.insert(conn.data, bytes) end, finish = function() end },
      { __close = function() end })
  end
  return conn
end

local function work_of(objects, via, store_options)
  local listed = {}
  local m = { prefix = "x/", object_count = #objects, rows = 10 * #objects, raw_bytes = 7, first_key = objects[1],
    last_key = objects[#objects], format = { format = "csv", compress = "gzip", delimiter = ",", null = "", quote = '"',
      escape = '"', encoding = "UTF8" }, store = {} }
  for i, key in ipairs(objects) do listed[i] = { key = "x/" .. key, size = 5, etag = "e" } end
  function m.store.list(_, opts)
    local i = 0
    return function()
      repeat i = i + 1 until not listed[i] or listed[i].key:sub(1, #opts.prefix) == opts.prefix
      return listed[i]
    end
  end
  function m.objects()
    local i = 0
    return function()
      i = i + 1
      return objects[i] and { key = objects[i], rows = 10, bytes = 5, etag = "e" }
    end
  end
  local log = {}
  local ctx = { run_id = "r", node = "in", attempt = 1, progress = function() end,
    log = function(_, level, format, ...) table.insert(log, level .. ": " .. format:format(...)) end,
    model = { project = { keep = function() end } } }
  local store_ = oss.open(store_options or { url = "oss://my-bucket/lake", endpoint = "https://oss-cn-x.aliyuncs.com",
    region = "cn-x", access_key_id = "the-id", access_key_secret = "the-secret" })
  return { ctx = ctx, spec = { via = via or { extension = "oss_fdw" }, on = "adbpg" }, rows = 0, objects = 0,
    target = { list = '"id"', columns = { { name = "id", quoted = '"id"' } } }, src = { manifest = m, store = store_ } },
    listed, log
end

local COLUMNS_SQL = "SELECT attname"
local ANSWERS = { ["FROM pg_extension"] = 1, ["gp_segment_configuration"] = 2, ["INSERT INTO"] = { affected = 20 },
  [COLUMNS_SQL] = { { name = "id", type = "bigint" } } }

TestPullRun = {}

function TestPullRun.test_a_greenplum_is_told_this_and_nothing_else()
  local conn = greenplum(ANSWERS)
  local work, _, log = work_of { RUN .. "1-000001.csv.gz", RUN .. "1-000002.csv.gz" }
  pull.run(work, conn, "dw.t")
  local name = conn.said[1]:match '"(pull_%x+)"'
  lu.assertEquals(conn.said, {
    ([[CREATE SERVER "%s" FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint 'oss-cn-x.aliyuncs.com', bucket 'my-bucket')]])
      :format(name),
    "CREATE TEMPORARY TABLE tidemill_keys (id text, secret text) ON COMMIT DROP DISTRIBUTED RANDOMLY",
    "COPY pg_temp.tidemill_keys FROM STDIN",
    pull.mapping(name),
    "DROP TABLE pg_temp.tidemill_keys",
    ([[CREATE FOREIGN TABLE tidemill.%s (
  "id" bigint
) SERVER "%s" OPTIONS (prefix 'lake/x/%s', format 'csv', filetype 'gzip', delimiter ',', null '', quote '"', escape '"', ]]
      .. "encoding 'UTF8')"):format(name, name, RUN),
    ('INSERT INTO dw.t ("id") SELECT "id" FROM tidemill.%s'):format(name),
    "DROP FOREIGN TABLE tidemill." .. name,
    ('DROP USER MAPPING FOR CURRENT_USER SERVER "%s"'):format(name),
    ('DROP SERVER "%s"'):format(name),
  })
  lu.assertEquals(conn.data, { "the-id\tthe-secret\n" })
  lu.assertEquals({ work.rows, work.objects, work.bytes, log }, { 20, 2, 7, {} })
end

function TestPullRun.test_a_server_that_is_there_is_used_as_it_is()
  local conn = greenplum { ["FROM pg_extension"] = 1, ["gp_segment_configuration"] = 2, ["INSERT INTO"] = { affected = 20 },
    [COLUMNS_SQL] = ANSWERS[COLUMNS_SQL], ["pg_foreign_server"] = "oss_fdw" }
  pull.run(work_of({ RUN .. "1-000001.csv.gz", RUN .. "1-000002.csv.gz" }, { extension = "oss_fdw", server = "there" }),
    conn, "dw.t")
  lu.assertEquals(#conn.said, 3)
  lu.assertStrContains(conn.said[1], [[SERVER "there" OPTIONS (prefix 'lake/x/]])
  lu.assertStrContains(conn.said[1], "bucket 'my-bucket'")
  lu.assertEquals(conn.data, {})
end

function TestPullRun.test_with_others_between_each_object_is_read_by_itself()
  local conn = greenplum { ["FROM pg_extension"] = 1, ["gp_segment_configuration"] = 3, ["INSERT INTO"] = { affected = 10 },
    [COLUMNS_SQL] = ANSWERS[COLUMNS_SQL] }
  local work, listed, log = work_of { RUN .. "1-000001.csv.gz", RUN .. "1-000003.csv.gz" }
  table.insert(listed, 2, { key = "x/" .. RUN .. "1-000002.csv.gz", size = 5, etag = "e" })
  pull.run(work, conn, "dw.t")
  local locators = {}
  for _, sql in ipairs(conn.said) do table.insert(locators, sql:match "filepath '[^']*'") end
  lu.assertEquals(locators, { ("filepath 'lake/x/%s1-000001.csv.gz'"):format(RUN),
    ("filepath 'lake/x/%s1-000003.csv.gz'"):format(RUN) })
  lu.assertStrContains(log[1], "warn: 2 objects for 3 segments")
end

local function refused(kind, message, answers, change, store_options)
  local work, listed = work_of({ RUN .. "1-000001.csv.gz", RUN .. "1-000002.csv.gz" }, nil, store_options)
  if change then change(work, listed) end
  local all = {}
  for key, value in pairs(ANSWERS) do all[key] = value end
  for key, value in pairs(answers) do all[key] = value end
  local ok, raised = pcall(pull.run, work, greenplum(all), "dw.t")
  lu.assertFalse(ok)
  lu.assertEquals(raised.kind, kind)
  lu.assertStrContains(raised.message, message)
end

function TestPullRun.test_what_cannot_be_is_said_before_rows_move()
  refused("not_found", "does not have the extension oss_fdw", { ["FROM pg_extension"] = 0 })
  refused("usage", "does not read zstd", {}, function(work) work.src.manifest.format.compress = "zstd" end)
end

function TestPullRun.test_stores_that_analyticdb_cannot_reach_are_refused()
  local keys = { access_key_id = "the-id", access_key_secret = "the-secret", endpoint = "https://files.example.com" }
  local function store_with(url, more)
    local options = { url = url, region = "cn-x" }
    for key, value in pairs(keys) do options[key] = value end
    for key, value in pairs(more or {}) do options[key] = value end
    return options
  end
  refused("usage", "temporary ones", {}, nil, store_with("oss://my-bucket", { security_token = "t" }))
  refused("usage", "reads OSS alone", {}, nil, store_with "s3://my-bucket")
  refused("usage", "by a domain of its own", {}, nil, store_with("oss://my-bucket", { addressing = "cname" }))
  refused("usage", "wants keys", {}, nil, { url = "oss://my-bucket", endpoint = "https://oss-cn-x.aliyuncs.com",
    anonymous = true })
end

function TestPullRun.test_other_counts_and_late_objects_are_errors()
  refused("integrity", "gave 19 rows, the manifest says 20", { ["INSERT INTO"] = { affected = 19 } })
  refused("integrity", "appeared meanwhile", {}, function(work, listed)
    work.ctx.progress = function() table.insert(listed, { key = "x/" .. RUN .. "9-000009.csv.gz", size = 1, etag = "n" }) end
  end)
  refused("integrity", "was replaced", {}, function(work, listed)
    work.ctx.progress = function() listed[1].etag = "other" end
  end)
end

function TestPullRun.test_a_table_is_made_as_greenplum_wants_it()
  local conn = greenplum { ["to_regclass"] = false, ["FROM pg_namespace"] = 0, ["to_regtype(n.name::cstring)"] = {
    { name = "bigint" } } }
  local work, _, log = work_of { RUN .. "1-000001.csv.gz" }
  lu.assertIsTrue(create.ensure(work.ctx, conn, { into = "dw.t", on = "adbpg", keys = { "id" },
    create = { with = { appendonly = "true" } } }, { columns = { { name = "id", type = "bigint" },
    { name = "feel", type = "mood" } } }, { count = 0 }))
  lu.assertEquals(conn.said, { "CREATE SCHEMA dw",
    'CREATE TABLE dw.t (\n  "id" bigint,\n  "feel" text\n)\nWITH (appendonly = \'true\')\nDISTRIBUTED BY ("id")' })
  lu.assertEquals(log, { "warn: column 'feel' is mood at the source, which 'adbpg' does not have: it becomes text",
    "info: made table dw.t with 2 columns" })
end

os.exit(lu.LuaUnit.run())
