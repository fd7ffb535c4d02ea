--- A column that divides rows into ranges, and where to cut.
---
--- Values travel as texts and are compared by the server alone, under the column's own collation, so
--- any type that sorts will do. Where to cut is found in the statistics (histogram and most common
--- values together), else in a sample: never by arithmetic between the least and the greatest, for keys
--- have gaps and lumps. A cut that is badly placed costs time; no row depends on it.

local errors = require "tidemill.errors"
local explain = require "tidemill.extract.explain"
local identifiers = require "tidemill.identifiers"
local pg = require "pg"
local suggest = require "tidemill.suggest"

local keys = {}

local SAMPLE_ROWS = 100000
local SAMPLE_PAGES = 2000

---@class extract.Key
---@field expression string  the column in SQL, as the flow writes it
---@field name string        of the column
---@field type string        as format_type writes it
---@field collate string     " COLLATE ..." or ""
---@field nullable boolean
---@field is_null string     " IS NULL", and " IS NOT NULL" as not_null; of a composite type the forms that
---do not take a row of NULLs for NULL
---@field not_null string
---@field table string       in SQL
---@field kind string        pg_class.relkind of it
---@field indexed boolean    an index begins with it

local LOOK = [[
  SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
    NOT (a.attnotnull AND (c.relkind = 'p' OR NOT c.relhassubclass)) AS nullable, c.relkind::text AS kind,
    coalesce(b.typtype, t.typtype) = 'c' AS composite, n.nspname AS schema, c.relname AS relation,
    o.collname AS collation, p.nspname AS collation_schema,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum) AS indexed
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
    LEFT JOIN pg_collation o ON o.oid = a.attcollation LEFT JOIN pg_namespace p ON p.oid = o.collnamespace
  WHERE a.attrelid = $1::regclass AND NOT a.attisdropped AND a.attnum > 0]]

local function unknown(conn, where, name)
  local names = {}
  for i, row in ipairs(conn:query(LOOK, where)) do names[i] = row.name end
  errors.usage(("split_by: %s has no column '%s'"):format(where, name), suggest.hint(name, names, "columns"))
end

--- Looks a key up: a column of `table`, or "table.column" in `split_by`.
---@param conn pg.Conn
---@param split_by string
---@param table_name? string
---@return extract.Key
function keys.look(conn, split_by, table_name)
  local parts = identifiers.parts(split_by)
  local name = identifiers.meaning(parts[#parts])
  local where = table_name or table.concat(parts, ".", 1, #parts - 1)
  local found = conn:one(LOOK .. " AND a.attname = $2", where, name)
  if not found then unknown(conn, where, name) end
  return {
    expression = split_by, name = name, type = found.type, nullable = found.nullable, table = where, kind = found.kind,
    schema = found.schema, relation = found.relation, indexed = found.indexed,
    is_null = found.composite and " IS NOT DISTINCT FROM NULL" or " IS NULL",
    not_null = found.composite and " IS DISTINCT FROM NULL" or " IS NOT NULL",
    collate = found.collation == pg.null and "" or (" COLLATE %s.%s"):format(pg.quote_ident(found.collation_schema),
      pg.quote_ident(found.collation)),
  }
end

--- The first column of the primary key of a table; nil if it has none.
---@param conn pg.Conn
---@param table_name string
---@return string? column  quoted
function keys.primary(conn, table_name)
  local name = conn:value([[SELECT a.attname FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = $1::regclass AND i.indisprimary]], table_name)
  return name and pg.quote_ident(name)
end

-- ---- where to cut ----

-- Between two bounds, of which either may be open; in terms of `k`.
local function between(key, lo, hi)
  local parts = {}
  if lo then parts[1] = ("k >= %s::%s"):format(pg.quote_literal(lo), key.type) end
  if hi then parts[#parts + 1] = ("k < %s::%s"):format(pg.quote_literal(hi), key.type) end
  return #parts > 0 and table.concat(parts, " AND ") or "TRUE"
end

-- Values in order, each with the share of the rows that it stands for.
local STATISTICS = [[
  WITH s AS (
    SELECT histogram_bounds::text::text[] AS bounds, most_common_vals::text::text[] AS common,
      most_common_freqs AS shares, coalesce(null_frac, 0) AS nulls
    FROM pg_stats WHERE schemaname = $1 AND tablename = $2 AND attname = $3 ORDER BY inherited DESC LIMIT 1),
  points AS (
    SELECT v::%s%s AS k, greatest(1 - nulls - coalesce((SELECT sum(f) FROM unnest(shares) f), 0), 0)
      / array_length(bounds, 1) AS share FROM s, unnest(bounds) AS v
    UNION ALL SELECT common[i]::%s%s, shares[i] FROM s, generate_series(1, coalesce(array_length(common, 1), 0)) i)
  SELECT k::text AS k, sum(share)::float8 AS share FROM points WHERE %s GROUP BY points.k ORDER BY points.k]]

local function from_statistics(conn, key, lo, hi)
  local sql = STATISTICS:format(key.type, key.collate, key.type, key.collate, between(key, lo, hi))
  return conn:query(sql, key.schema, key.relation, key.name)
end

-- Percentiles of rows of `source`, a SELECT of the key as k.
local function percentiles(conn, key, source, count, lo, hi)
  local at = {}
  for i = 1, count - 1 do at[i] = ("%.6f"):format(i / count) end
  local sql = ([[SELECT v::text AS k, 1.0::float8 AS share FROM unnest((
    SELECT percentile_disc('{%s}'::float8[]) WITHIN GROUP (ORDER BY k) FROM (%s) s WHERE k IS NOT NULL AND %s)) AS v]])
    :format(table.concat(at, ","), source, between(key, lo, hi))
  return conn:query(sql)
end

local function from_sample(conn, key, count, lo, hi, where)
  local column = pg.quote_ident(key.name)
  if not where and (key.kind == "r" or key.kind == "m") and conn:server_version() >= 90500 then
    local pages = conn:value("SELECT pg_relation_size($1::regclass) / current_setting('block_size')::int", key.table)
    local percent = math.min(100, math.max(100 * SAMPLE_PAGES / math.max(pages, 1), 0.001))
    local source = ("SELECT %s AS k FROM %s TABLESAMPLE SYSTEM (%.6f)"):format(column, key.table, percent)
    return percentiles(conn, key, source, count, lo, hi)
  end
  local source = ("SELECT %s AS k FROM %s%s"):format(column, key.table, where and (" WHERE (%s\n)"):format(where) or "")
  local rows = explain.of(conn, source).rows
  if rows > SAMPLE_ROWS then
    source = ("SELECT k FROM (%s) t WHERE random() < %.9f"):format(source, SAMPLE_ROWS / rows)
  end
  return percentiles(conn, key, source, count, lo, hi)
end

--- Picks the bounds of `count` ranges of about equal shares from points in order.
---@param points {k: string, share: number}[]
---@param count integer
---@return string[]  ascending, at most count - 1
function keys.cuts(points, count)
  local total, sum, nth, cuts = 0, 0, 1, {}
  for _, point in ipairs(points) do total = total + point.share end
  for i, point in ipairs(points) do
    local reached = sum * count / total + 1e-9
    if i > 1 and nth < count and reached >= nth then -- the range begins with this value, so what is before it counts
      cuts[#cuts + 1] = point.k
      nth = reached // 1 + 1
    end
    sum = sum + point.share
  end
  return cuts
end

-- Bounds were sorted by the type's order; ranges are asked for with its operators, which may be others if
-- its schema is not in search_path (citext then compares as text does). Rows would be lost.
local function check_order(conn, key, cuts)
  local rises = conn:value(([[SELECT coalesce(bool_and(k <= n), true) FROM (
    SELECT v::%s%s AS k, lead(v::%s%s) OVER (ORDER BY i) AS n FROM unnest($1::text[]) WITH ORDINALITY AS u(v, i)) s]])
    :format(key.type, key.collate, key.type, key.collate), cuts)
  if rises then return cuts end
  errors.usage(("'%s' cannot divide rows: the type %s sorts in another order than it compares"):format(key.name,
    key.type), "put the schema of the type into search_path, or name another column in 'split_by'")
end

local function find(conn, key, count, opts)
  local points = opts.where and {} or from_statistics(conn, key, opts.lo, opts.hi)
  if #points > 1 then return keys.cuts(points, math.min(count, #points)) end
  local cuts, last = {}, nil
  for _, point in ipairs(from_sample(conn, key, count, opts.lo, opts.hi, opts.where)) do
    if point.k ~= last then cuts[#cuts + 1] = point.k end
    last = point.k
  end
  return cuts
end

--- The bounds of at most `count` ranges between two values, ascending.
---@param conn pg.Conn   under the snapshot
---@param key extract.Key
---@param count integer
---@param opts? {lo: string?, hi: string?, where: string?}  where: a condition that makes the statistics useless
---@return string[]
function keys.bounds(conn, key, count, opts)
  if count < 2 then return {} end
  local cuts = find(conn, key, count, opts or {})
  return #cuts > 1 and check_order(conn, key, cuts) or cuts
end

return keys
