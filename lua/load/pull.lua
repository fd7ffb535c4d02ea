--- A load in which the database reads the objects itself: `via = "oss_fdw"`.
---
---     pull.run(work, conn, into)      -- in place of a COPY for each object, in the load's transaction
---
--- In a Greenplum-family database its segments read side by side, and no row passes through here. A
--- foreign server, a user mapping and a foreign table are made in the transaction that takes the rows,
--- and are gone at its end however it ends, so nobody else ever sees them.
---
--- The foreign table is to be of exactly the manifest's objects. Those of one attempt of an extract begin
--- with the same name, and if a listing has as many of that name as the manifest, they are its own: one
--- foreign table with that `prefix` is all of them. Where something else lies between, each object is
--- read by its `filepath`. Afterwards the objects are looked at once more, and the rows are counted
--- against the manifest, all before the transaction commits. (The contents are what the
--- extension checks: the CRC64 of the manifest is not its business.)
---
--- The store's keys reach the database as the data of a COPY into a temporary table, from which a
--- DO block puts them into the user mapping: no statement that is sent has them in its text or its
--- parameters, so neither logs nor pg_stat_activity ever do. What logs the statements within functions
--- (pg_stat_statements with track = all, pgaudit) would; a server that is there and knows its keys,
--- `via = { "oss_fdw", server = "name" }`, needs none.

local access = require "tidemill.access"
local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local names = require "tidemill.manifest.names"
local pg = require "pg"
local present = require "tidemill.manifest.present"
local probe = require "tidemill.probe"
local sign = require "tidemill.sign"
local text = require "tidemill.text"

local pull = {}

-- ---- statements ----

-- (a 'x', b 'y') of { { "a", "x" }, ... }; nil values are left out.
local function options(list)
  local words = {}
  for _, pair in ipairs(list) do
    if pair[2] ~= nil then words[#words + 1] = ("%s %s"):format(pair[1], pg.quote_literal(pair[2])) end
  end
  return "OPTIONS (" .. table.concat(words, ", ") .. ")"
end

---@alias pull.Dialect "ours"|"adbpg"  whose oss_fdw it is: tidemill's, or that of AnalyticDB for PostgreSQL

--- Makes the server of a store. AnalyticDB's takes a host's name alone.
---@param name string
---@param to table  of tidemill.access, perhaps with another endpoint
---@param dialect pull.Dialect
---@return string
function pull.server(name, to, dialect)
  local ours = dialect == "ours" or nil
  return ("CREATE SERVER %s FOREIGN DATA WRAPPER oss_fdw %s"):format(pg.quote_ident(name), options {
    { "endpoint", ours and to.endpoint or (to.endpoint:gsub("^%a+://", ""):gsub("/+$", "")) },
    { "bucket", to.bucket },
    { "protocol", ours and to.protocol },
    { "region", ours and to.region },
    { "addressing", ours and to.addressing },
    { "signature", ours and to.signature ~= "none" and to.protocol == "oss" and to.signature or nil },
    { "anonymous", ours and not to.id and "true" or nil },
  })
end

--- The temporary table by which keys travel.
---@param flavor "postgresql"|"greenplum"
---@return string
function pull.keys(flavor)
  return "CREATE TEMPORARY TABLE tidemill_keys (id text, secret text) ON COMMIT DROP"
    .. (flavor == "greenplum" and " DISTRIBUTED RANDOMLY" or "")
end

--- Puts the keys of the temporary table into the user mapping of a server. The context of any message from
--- within has the statement: an error is raised anew, and the log is told to leave contexts out, which only
--- superusers may do (others' log has them from level WARNING on, if something of the server warns there).
---@param server string
---@return string
function pull.mapping(server)
  return ([[DO %s
DECLARE
  k record;
  verbosity text := current_setting('log_error_verbosity');
BEGIN
  BEGIN
    PERFORM set_config('log_error_verbosity', 'terse', true);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;
  END;
  SELECT id, secret INTO STRICT k FROM pg_temp.tidemill_keys;
  EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER %%I OPTIONS (id %%L, key %%L)', %s, k.id, k.secret);
  IF current_setting('log_error_verbosity') <> verbosity THEN
    PERFORM set_config('log_error_verbosity', verbosity, true);
  END IF;
EXCEPTION WHEN OTHERS THEN
  RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = 'cannot make the user mapping: ' || SQLERRM;
END %s]]):format("$tidemill$", pg.quote_literal(server), "$tidemill$")
end

local FILETYPES = { none = "plain", gzip = "gzip", zstd = "zstd" }

--- Makes the foreign table of a locator.
---@param name string  as SQL names it
---@param server string
---@param columns { quoted: string, type: string }[]  in the objects' order
---@param locator string[]  { "prefix"|"filepath", key }
---@param format table  of the manifest
---@param bucket? string  unless it is the server's
---@return string
function pull.table(name, server, columns, locator, format, bucket)
  local lines = {}
  for i, column in ipairs(columns) do lines[i] = ("  %s %s"):format(column.quoted, column.type) end
  local csv = format.format == "csv" or nil
  return ("CREATE FOREIGN TABLE %s (\n%s\n) SERVER %s %s"):format(name, table.concat(lines, ",\n"),
    pg.quote_ident(server), options {
      locator,
      { "bucket", bucket },
      { "format", format.format },
      { "filetype", FILETYPES[format.compress] },
      { "delimiter", format.delimiter },
      { "null", format.null },
      { "quote", csv and format.quote },
      { "escape", csv and format.escape },
      { "header", csv and format.header and "true" or nil },
      { "encoding", format.encoding },
    })
end

--- Changes what a foreign table is of.
---@param name string
---@param from string  the kind of locator it has
---@param locator string[]
---@return string
function pull.point(name, from, locator)
  if from == locator[1] then
    return ("ALTER FOREIGN TABLE %s OPTIONS (SET %s %s)"):format(name, locator[1], pg.quote_literal(locator[2]))
  end
  return ("ALTER FOREIGN TABLE %s OPTIONS (DROP %s, ADD %s %s)"):format(name, from, locator[1],
    pg.quote_literal(locator[2]))
end

--- Takes all rows. COPY fills identity columns too; an INSERT does it when told so.
---@param into string
---@param list string  columns, quoted and with commas between
---@param name string  of the foreign table
---@param version integer
---@return string
function pull.insert(into, list, name, version)
  return ("INSERT INTO %s (%s)%s SELECT %s FROM %s"):format(into, list,
    version >= 100000 and " OVERRIDING SYSTEM VALUE" or "", list, name)
end

-- ---- which objects ----

---@class pull.Group
---@field stem string    what the keys of all begin with, relative to the prefix
---@field objects integer
---@field rows integer

-- What the names of an attempt's objects begin with; nil for names that no extract gives.
local function stem_of(key)
  local folder, name = key:match "^(.-)([^/]*)$"
  if not names.parse_object(name) then return nil end
  return folder .. name:match "^(.*%-)%d+%-%d+%.[^-]*$"
end

--- The objects of a manifest by the attempts that wrote them. Nil when there are names among them
--- that no extract gives.
---@param m manifest.Manifest
---@return pull.Group[]?
function pull.groups(m)
  local groups = {}
  for object in m:objects() do
    local stem = stem_of(object.key)
    if not stem then return nil end
    local last = groups[#groups]
    if not last or last.stem ~= stem then
      last = { stem = stem, objects = 0, rows = 0 }
      groups[#groups + 1] = last
    end
    last.objects, last.rows = last.objects + 1, last.rows + object.rows
  end
  return groups
end

-- Whether there are no other objects of that name. (Those of the manifest are known to be there.)
local function alone(m, group)
  local count = 0
  for entry in m.store:list { prefix = m.prefix .. group.stem } do
    if not entry.prefix then count = count + 1 end
    if count > group.objects then return false end
  end
  return count == group.objects
end

-- The parts that are read by one statement each: { locator, rows, what }, as an iterator.
local function parts_of(m, prefix)
  local groups = pull.groups(m)
  local whole = groups ~= nil
  for _, group in ipairs(groups or {}) do whole = whole and alone(m, group) end
  if whole then
    local i = 0
    return function()
      i = i + 1
      local group = groups[i]
      return group and { locator = { "prefix", prefix .. m.prefix .. group.stem }, rows = group.rows,
        objects = group.objects, what = ("the objects '%s%s...'"):format(m.prefix, group.stem) }
    end, groups
  end
  local next_object, _, _, reader = m:objects()
  return function()
    local object
    repeat object = next_object() until not object or object.rows > 0
    return object and { locator = { "filepath", prefix .. m.prefix .. object.key }, rows = object.rows, objects = 1,
      what = ("object '%s%s'"):format(m.prefix, object.key) }
  end, nil, reader
end

-- That what was read is what the manifest has: nothing was replaced or added meanwhile.
local function check_again(m, groups)
  present.check(m)
  for _, group in ipairs(groups or {}) do
    if not alone(m, group) then
      errors.raise("integrity", ("objects '%s%s...' that are not in the manifest appeared meanwhile"):format(m.prefix,
        group.stem), "run the load again")
    end
  end
end

-- ---- the database ----

local HAS = "SELECT count(*) FROM pg_extension WHERE extname = 'oss_fdw'"
local OURS = [[SELECT count(*) FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = 'oss_fdw' AND p.proname = 'oss_fdw_sweep']]

-- Whose extension it is; raises when it will not do.
local function dialect_of(conn, on, format)
  if conn:value(HAS) == 0 then
    errors.raise("not_found", ("'%s' does not have the extension oss_fdw"):format(on),
      "CREATE EXTENSION oss_fdw; see 'tidemill help oss_fdw'. Without it leave out via = \"oss_fdw\"")
  elseif conn:flavor() == "greenplum" then
    if format.compress == "zstd" then
      errors.usage("AnalyticDB's oss_fdw does not read zstd", "extract with compress = \"gzip\"")
    end
    return "adbpg"
  elseif conn:value(OURS) == 0 then
    errors.usage(("the oss_fdw of '%s' is neither AnalyticDB's nor tidemill's"):format(on),
      "leave out via = \"oss_fdw\": rows are then sent by COPY")
  end
  return "ours"
end

-- That a server which the flow names will do.
local function check_server(conn, name)
  local wrapper = conn:value([[SELECT w.fdwname::text FROM pg_foreign_server s
    JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE s.srvname = $1]], name)
  if not wrapper then errors.raise("not_found", ("there is no foreign server '%s'"):format(name)) end
  if wrapper ~= "oss_fdw" then errors.usage(("server '%s' is one of %s, not of oss_fdw"):format(name, wrapper)) end
end

local function explain(raised)
  if errors.is(raised) and raised.code == "42501" then
    raised.hint = "GRANT USAGE ON FOREIGN DATA WRAPPER oss_fdw and CREATE ON SCHEMA tidemill to the connection's role, "
      .. "or name a server that is there: via = { \"oss_fdw\", server = \"name\" }"
  end
  error(raised, 0)
end

local function exec(conn, sql)
  local ok, raised = pcall(conn.exec, conn, sql)
  if not ok then explain(raised) end
end

local NAME_ONE = "name a server that is there: via = { \"oss_fdw\", server = \"name\" }"

-- What a server made here cannot be told.
local function check_store(to, dialect, endpoint)
  if to.token then errors.usage("the store's keys are temporary ones, which oss_fdw does not take", NAME_ONE) end
  if dialect == "ours" then return end
  if to.protocol ~= "oss" then errors.usage("AnalyticDB's oss_fdw reads OSS alone", "load without via") end
  if not to.id then errors.usage("AnalyticDB's oss_fdw wants keys, and the store is used without", NAME_ONE) end
  if to.addressing == "cname" and not endpoint then
    errors.usage("AnalyticDB's oss_fdw knows no bucket by a domain of its own",
      "give via = { \"oss_fdw\", endpoint = \"oss-REGION-internal.aliyuncs.com\" }")
  end
end

-- A server with keys, of this transaction alone.
local function make_server(work, conn, name, to, dialect)
  check_store(to, dialect, work.spec.via.endpoint)
  to.endpoint = work.spec.via.endpoint or to.endpoint
  exec(conn, pull.server(name, to, dialect))
  if not to.id then return end
  if (to.id .. to.secret):find "[^!-~]" or (to.id .. to.secret):find("\\", 1, true) then
    errors.usage("the store's keys have a character that is none of a key")
  end
  conn:exec(pull.keys(conn:flavor()))
  local sink <close> = conn:copy_in "COPY pg_temp.tidemill_keys FROM STDIN"
  sink:write(("%s\t%s\n"):format(to.id, to.secret), 1)
  sink:finish()
  exec(conn, pull.mapping(name))
  conn:exec "DROP TABLE pg_temp.tidemill_keys"
end

-- The columns with the types that they have where the rows go.
local function typed(conn, into, columns)
  local types, list = {}, {}
  for _, row in ipairs(conn:query([[SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type
    FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped]], into)) do
    types[row.name] = row.type
  end
  for i, column in ipairs(columns) do list[i] = { quoted = column.quoted, type = types[column.name] } end
  return list
end

local SEGMENTS = "SELECT count(*) FROM gp_segment_configuration WHERE role = 'p' AND content >= 0"
local EVEN = 0.9 -- of the segments at work until the last object is read

--- What to say of so many objects for so many segments; nil when they are even enough.
---@param objects integer
---@param segments integer
---@return string?
function pull.unevenness(objects, segments)
  if segments < 1 or objects == 0 then return nil end
  local rounds = (objects + segments - 1) // segments
  if objects / (rounds * segments) >= EVEN then return nil end
  return ("%s for %s: some read %d and some fewer; flow.extract's objects = %d makes them even"):format(
    text.count(objects, "object"), text.count(segments, "segment"), rounds, segments)
end

local function warn_segments(work, conn, m)
  if conn:flavor() ~= "greenplum" then return end
  local ok, segments = probe(conn, conn.value, SEGMENTS) -- a serverless one may not tell
  local uneven = ok and pull.unevenness(m.object_count, segments)
  if uneven then work.ctx:log("warn", "%s", uneven) end
end

-- ---- the work ----

local function take(work, conn, sql, part)
  local ok, result = pcall(conn.query, conn, sql)
  if not ok then
    if errors.is(result) then result.message = ("%s: %s"):format(part.what, result.message) end
    error(result, 0)
  end
  if result.affected ~= part.rows then
    errors.raise("integrity", ("%s gave %s rows, the manifest says %d"):format(part.what, tostring(result.affected),
      part.rows),
      "extract again; if they are right in the store, look at triggers of the table and at what the server reads")
  end
  work.rows, work.objects = work.rows + part.rows, work.objects + part.objects
  work.ctx:progress { rows = work.rows }
end

-- A name that no other attempt has, so none waits for another's.
local function name_of(ctx)
  return "pull_" .. sign.sha256(("%s\n%s\n%d"):format(ctx.run_id, ctx.node, ctx.attempt)):sub(1, 24)
end

--- Fills a table from the objects of the manifest, in the open transaction, and counts them. Raises what the
--- store and the server raise, kind "integrity" for what is not as the manifest says, "not_found" and
--- "usage" for a database that cannot do it.
---@param work load.Work
---@param conn pg.Conn
---@param into string  the table as SQL names it: the target, or a staging table with columns of its names
function pull.run(work, conn, into)
  local m, via, to = work.src.manifest, work.spec.via, access.of(work.src.store)
  work.ctx.model.project:keep(to.secret)
  work.ctx.model.project:keep(to.token)
  local dialect = dialect_of(conn, work.spec.on, m.format)
  warn_segments(work, conn, m)
  if m.object_count == 0 then return end
  local name = name_of(work.ctx)
  local server, foreign = via.server or name, ("tidemill.%s"):format(name)
  if via.server then check_server(conn, via.server) else make_server(work, conn, name, to, dialect) end
  local next_part, groups, _ <close> = parts_of(m, to.prefix)
  local insert = pull.insert(into, work.target.list, foreign, conn:server_version())
  local columns, has = typed(conn, into, work.target.columns), nil
  crash.point "load.pull.before"
  for part in next_part do
    exec(conn, has and pull.point(foreign, has, part.locator)
      or pull.table(foreign, server, columns, part.locator, m.format, via.server and to.bucket))
    has = part.locator[1]
    take(work, conn, insert, part)
  end
  check_again(m, groups)
  crash.point "load.pull.after"
  if has then conn:exec("DROP FOREIGN TABLE " .. foreign) end
  if not via.server then
    if to.id then conn:exec("DROP USER MAPPING FOR CURRENT_USER SERVER " .. pg.quote_ident(server)) end
    conn:exec("DROP SERVER " .. pg.quote_ident(server))
  end
  work.bytes = m.raw_bytes
end

return pull
