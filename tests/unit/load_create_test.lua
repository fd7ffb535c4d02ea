--- lua/load/create.lua: the statement that makes a load's table, for either kind of server. There is no
--- Greenplum at hand: what one would be sent is compared here, text for text.

local create = require "tidemill.load.create"
local errors = require "tidemill.errors"
local lu = require "luaunit"

local WANTED = { into = "dw.orders", names = { "id", "Odd \"name\"", "amount" },
  types = { "bigint", "text", "numeric(12,3)" } }

local function statement(options, flavor, keys)
  local wanted = { keys = keys }
  for key, value in pairs(WANTED) do wanted[key] = value end
  local sql, left_out = create.statement(options, wanted, flavor)
  return sql, left_out
end

local COLUMNS = 'dw.orders (\n  "id" bigint,\n  "Odd ""name""" text,\n  "amount" numeric(12,3)%s\n)'

TestCreateStatement = {}

function TestCreateStatement.test_a_plain_table_has_the_objects_columns_and_types()
  local sql, left_out = statement({}, "postgresql")
  lu.assertEquals(sql, "CREATE TABLE " .. COLUMNS:format "")
  lu.assertEquals(left_out, {})
end

function TestCreateStatement.test_greenplum_is_told_how_rows_are_spread()
  local head = "CREATE TABLE " .. COLUMNS:format "" .. "\n"
  lu.assertEquals(statement({ distributed_by = { "id", "amount" } }, "greenplum"),
    head .. 'DISTRIBUTED BY ("id", "amount")')
  lu.assertEquals(statement({ distributed_by = "randomly" }, "greenplum"), head .. "DISTRIBUTED RANDOMLY")
  lu.assertEquals(statement({ distributed_by = "replicated" }, "greenplum"), head .. "DISTRIBUTED REPLICATED")
end

function TestCreateStatement.test_unless_told_rows_are_spread_by_the_keys_of_a_merge_then_the_primary_key_then_randomly()
  local head = "CREATE TABLE " .. COLUMNS:format "" .. "\n"
  lu.assertEquals(statement({}, "greenplum"), head .. "DISTRIBUTED RANDOMLY")
  lu.assertEquals(statement({ primary_key = false }, "greenplum", { "id" }), head .. 'DISTRIBUTED BY ("id")')
  lu.assertEquals(statement({ primary_key = { "amount" } }, "greenplum"),
    "CREATE TABLE " .. COLUMNS:format ',\n  PRIMARY KEY ("amount")' .. '\nDISTRIBUTED BY ("amount")')
  lu.assertStrContains(statement({ primary_key = { "amount", "id" } }, "greenplum", { "id" }), 'DISTRIBUTED BY ("id")')
  lu.assertStrContains(statement({ primary_key = { "amount" } }, "greenplum", { "id" }), 'DISTRIBUTED BY ("amount")')
end

function TestCreateStatement.test_the_keys_of_a_merge_are_the_primary_key_unless_the_flow_says_otherwise()
  local function key_of(options, flavor)
    return statement(options, flavor or "postgresql", { "id", "amount" }):match "PRIMARY KEY %(([^)]*)%)"
  end
  lu.assertEquals(key_of {}, '"id", "amount"')
  lu.assertEquals(key_of { primary_key = { "id" } }, '"id"')
  lu.assertNil(key_of { primary_key = false })
  lu.assertNil(key_of { columns = { id = "bigint Primary  Key" } })
  lu.assertEquals(key_of({}, "greenplum"), '"id", "amount"')
  lu.assertEquals(key_of({ distributed_by = { "amount" } }, "greenplum"), '"id", "amount"')
  lu.assertEquals(key_of({ distributed_by = "replicated" }, "greenplum"), '"id", "amount"')
end

function TestCreateStatement.test_greenplum_has_no_primary_key_where_it_could_not_keep_it()
  for _, options in ipairs { { distributed_by = "randomly" }, { distributed_by = { "day" } },
      { with = { appendonly = "true" } }, { with = { appendoptimized = "true" } }, { partition_by = "RANGE (day) ()" } } do
    lu.assertNotStrContains(statement(options, "greenplum", { "id" }), "PRIMARY KEY")
  end
end

function TestCreateStatement.test_storage_and_partitions_go_where_greenplum_wants_them()
  lu.assertEquals(statement({ with = { appendonly = "true", orientation = "column", compresstype = "zstd",
    compresslevel = "5" }, distributed_by = { "id" }, partition_by = "RANGE (amount) (START (0) END (9) EVERY (1))",
    unlogged = true }, "greenplum"), "CREATE UNLOGGED TABLE " .. COLUMNS:format ""
    .. "\nWITH (appendonly = 'true', compresslevel = '5', compresstype = 'zstd', orientation = 'column')"
    .. '\nDISTRIBUTED BY ("id")\nPARTITION BY RANGE (amount) (START (0) END (9) EVERY (1))')
end

function TestCreateStatement.test_a_stock_server_is_spared_what_it_does_not_know()
  local sql, left_out = statement({ with = { appendonly = "true", fillfactor = "70", compresstype = "zstd" },
    distributed_by = { "id" }, partition_by = "RANGE (amount) (START (0) END (9) EVERY (1))" }, "postgresql")
  lu.assertEquals(sql, "CREATE TABLE " .. COLUMNS:format "" .. "\nWITH (fillfactor = '70')")
  lu.assertEquals(left_out, { "appendonly", "compresstype", "distributed_by", "partition_by" })
end

function TestCreateStatement.test_the_flow_may_give_a_column_another_type()
  lu.assertStrContains(statement({ columns = { amount = "numeric(18,4) NOT NULL" } }, "postgresql"),
    '"amount" numeric(18,4) NOT NULL\n')
end

function TestCreateStatement.test_a_value_of_an_option_stays_a_value()
  lu.assertStrContains(statement({ with = { fillfactor = "70) AS SELECT (1" } }, "postgresql"),
    "WITH (fillfactor = '70) AS SELECT (1')")
end

TestCreateTypes = {}

local function candidates(type, version)
  return create.candidates({ name = "c", type = type }, version or 150000)
end

function TestCreateTypes.test_the_type_itself_comes_first_then_what_is_near_it()
  lu.assertEquals(candidates "numeric(12,3)", { "numeric(12,3)" })
  lu.assertEquals(candidates "jsonb", { "jsonb", "json" })
  lu.assertEquals(candidates "jsonb[]", { "jsonb[]", "json[]" })
end

function TestCreateTypes.test_a_scale_that_old_servers_refuse_is_left_out()
  lu.assertEquals(candidates("numeric(5,-2)", 90426), { "numeric" })
  lu.assertEquals(candidates("numeric(3,5)[]", 120000), { "numeric[]" })
  lu.assertEquals(candidates("numeric(5,-2)", 150000), { "numeric(5,-2)" })
end

function TestCreateTypes.test_names_of_things_of_the_source_are_text()
  lu.assertEquals(candidates "regclass", {})
  lu.assertEquals(candidates "regproc[]", {})
end

-- A server that knows some types, and raises for some texts as those before 16 do.
local function server(known, raising, version)
  local asked = {}
  return { asked = asked, server_version = function() return version or 150000 end, state = function() return "idle" end,
    transaction = function() return setmetatable({ commit = function() end }, { __close = function() end }) end,
    query = function(_, sql, names)
      asked[#asked + 1] = { sql = sql, names = names }
      local rows = {}
      for _, name in ipairs(names) do
        if raising and raising[name] then errors.raise("sql", "syntax error") end
        if known[name] then rows[#rows + 1] = { name = name } end
      end
      return rows
    end }
end

function TestCreateTypes.test_what_the_server_lacks_becomes_what_is_near_or_text_and_is_told()
  local conn = server { bigint = true, json = true }
  local types, changes = create.types(conn, { { name = "id", type = "bigint" }, { name = "mood", type = "mood" },
    { name = "doc", type = "jsonb" }, { name = "tags", type = "citext[]" } })
  lu.assertEquals(types, { "bigint", "text", "json", "text[]" })
  lu.assertEquals(#changes, 3)
  lu.assertEquals(changes[1], { number = 2, column = "mood", from = "mood", to = "text" })
  lu.assertEquals(#conn.asked, 1)
end

function TestCreateTypes.test_a_text_that_is_no_type_costs_only_its_own_column()
  local conn = server({ bigint = true }, { ["bigint DEFAULT 1"] = true })
  local types = create.types(conn, { { name = "a", type = "bigint" }, { name = "b", type = "bigint DEFAULT 1" } })
  lu.assertEquals(types, { "bigint", "text" })
end

function TestCreateTypes.test_types_are_parameters_in_the_form_that_the_version_takes()
  for version, form in pairs { [150000] = "to_regtype(n.name)", [90426] = "to_regtype(n.name::cstring)" } do
    local conn = server({}, nil, version)
    create.types(conn, { { name = "a", type = "x'; DROP TABLE t" } })
    lu.assertStrContains(conn.asked[1].sql, form)
    lu.assertNotStrContains(conn.asked[1].sql, "DROP TABLE")
  end
end

function TestCreateTypes.test_names_follow_the_mapping_of_the_load()
  local columns = { { name = "a", type = "int" }, { name = "b", type = "int" } }
  lu.assertEquals(create.names({}, columns), { "a", "b" })
  lu.assertEquals(create.names({ columns = { a = "x" } }, columns), { "x", "b" })
  lu.assertEquals(create.names({ columns = { "x", "y" } }, columns), { "x", "y" })
end

os.exit(lu.LuaUnit.run())
