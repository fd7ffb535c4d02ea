--- lua/load/pull.lua: what a database is sent that reads objects by oss_fdw, ours or AnalyticDB's. There is no
--- AnalyticDB at hand: its statements are compared here, text for text.

local lu = require "luaunit"
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

os.exit(lu.LuaUnit.run())
