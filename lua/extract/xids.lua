--- Which transactions an extract has seen: what makes increments meet without a gap or an overlap.
---
--- A snapshot cannot be kept as its text: txid_current_snapshot() lists no subtransactions, so a row
--- that was written behind a savepoint of an open transaction would pass for one that was there. What is
--- kept is made by asking for the state of every transaction that may be open, one by one, right before
--- the snapshot is taken:
---
---     seen = { below = X, open = { {from, to}, ... } }
---
--- are all transactions and subtransactions below X, but for those in the ranges `open`, which were in
--- progress, prepared ones included. (Ranges may cover aborted ones, which left no rows.) What was committed
--- when it was asked for is visible in any later snapshot. So an increment is the rows visible now whose
--- xmin is in `seen` now and was not in `seen` before: a question to the number alone. Rows committed
--- between asking and the snapshot come with the next increment.
---
--- Numbers are of 64 bits, as those of txid_current(). A row's xmin has the low 32 of them; it is completed
--- to the last number before the snapshot's end that fits, since no row that is not frozen is older than
--- 2^31 transactions. A frozen row keeps its xmin, and 2^32 transactions later it stands for another number:
--- it may then count as new. That takes a server that has had four billion transactions, and a
--- watermark without a lower bound.
---
--- X is behind a transaction that has committed, never behind one that aborted at last: its number might
--- be given again after a crash of the server, which forgets what was not flushed.

local xids = {}

local MOST_RANGES = 1000
local MOST_LOOK = 1 << 24 -- numbers whose state is asked for at once
local BACK = 1000         -- numbers in which a committed one is looked for
local FIRST = 3           -- what is below is frozen, or of initdb
local WRAP = 1 << 32
local LAST = 1 << 62 -- no number is so large

---@class extract.Seen
---@field below integer
---@field open integer[][]  {from, to}, both included; ascending, apart from each other

-- ---- sets of numbers: lists of {from, to}, ascending and apart ----

--- What is in `a` and not in `b`.
---@param a integer[][]
---@param b integer[][]
---@return integer[][]
function xids.without(a, b)
  local out, i = {}, 1
  for _, range in ipairs(a) do
    local from = range[1]
    while b[i] and b[i][2] < from do i = i + 1 end
    local j = i
    while b[j] and b[j][1] <= range[2] do
      if b[j][1] > from then out[#out + 1] = { from, b[j][1] - 1 } end
      from = math.max(from, b[j][2] + 1)
      j = j + 1
    end
    if from <= range[2] then out[#out + 1] = { from, range[2] } end
  end
  return out
end

-- The numbers seen, as a set.
local function set_of(seen) return xids.without({ { 0, seen.below - 1 } }, seen.open) end

--- The numbers that are seen now and were not before.
---@param now extract.Seen
---@param before? extract.Seen  nil: none was
---@return integer[][]
function xids.news(now, before) return before and xids.without(set_of(now), set_of(before)) or set_of(now) end

-- ---- looking ----

local CANDIDATES = [[SELECT i FROM generate_series(greatest((SELECT lo FROM ends) - %d, %d)::bigint,
  least((SELECT hi FROM ends) - 1, greatest((SELECT lo FROM ends) - %d, %d)::bigint + %d)) AS i]]
local AGAIN = [[ UNION ALL SELECT i FROM (VALUES %s) AS o(a, b), generate_series(greatest(a, (SELECT lo FROM ends)),
  least(b, (SELECT hi FROM ends) - 1)) AS i]]
local LOOK = [[
  WITH moment AS (SELECT txid_current_snapshot() AS s),
  ends AS (SELECT txid_snapshot_xmin(s) AS lo, txid_snapshot_xmax(s) AS hi FROM moment),
  asked AS (SELECT i, txid_status(i) AS state FROM (%s) AS c),
  islands AS (SELECT i, state, i - row_number() OVER (ORDER BY i) AS island FROM asked
    WHERE state IS DISTINCT FROM 'committed'),
  open AS (SELECT min(i) AS a, max(i) AS b FROM islands GROUP BY island HAVING bool_or(state = 'in progress'))
  SELECT (SELECT lo FROM ends) AS lo, (SELECT hi FROM ends) AS hi,
    (SELECT max(i) FROM asked WHERE state = 'committed') AS committed,
    (SELECT string_agg(a || '-' || b, ' ' ORDER BY a) FROM open) AS open]]

--- The SQL of a look.
---@param before? extract.Seen
---@return string
function xids.look_sql(before)
  local from = math.max(before and before.below or 0, FIRST)
  local candidates = CANDIDATES:format(BACK, from, BACK, from, MOST_LOOK)
  local again = {}
  for i, range in ipairs(before and before.open or {}) do
    again[i] = ("(%d::bigint, %d::bigint)"):format(range[1], range[2])
  end
  if #again > 0 then candidates = candidates .. AGAIN:format(table.concat(again, ", ")) end
  return LOOK:format(candidates)
end

--- What a look found.
---@param row {lo: integer, committed: any, open: any}
---@param before? extract.Seen
---@return extract.Seen
function xids.found(row, before)
  local open = {}
  for from, to in (type(row.open) == "string" and row.open or ""):gmatch "(%d+)-(%d+)" do
    open[#open + 1] = { math.tointeger(from), math.tointeger(to) }
  end
  local below = before and before.below or row.lo
  if math.type(row.committed) == "integer" then below = math.max(before and below or 0, row.committed + 1) end
  return xids.cut({ below = below, open = open }, before)
end

--- What was seen where nobody tells the state of a transaction: what is older than all that are open. The
--- others are seen when those have ended.
---@param lo integer  the oldest that is open
---@param before? extract.Seen
---@return extract.Seen
function xids.withheld(lo, before)
  return { below = math.max(lo, before and before.below or 0), open = xids.without(before and before.open or {},
    { { 0, lo - 1 } }) }
end

--- A set that may be kept: nothing in `open` that is not below X, and not too many ranges; what is cut
--- off is seen later. Never less than before.
---@param seen extract.Seen
---@param before? extract.Seen
---@return extract.Seen
function xids.cut(seen, before)
  local below, least = seen.below, before and before.below or 0
  if seen.open[MOST_RANGES + 1] then below = math.max(least, math.min(below, seen.open[MOST_RANGES + 1][1])) end
  local open = xids.without(seen.open, { { below, LAST } })
  return { below = below, open = open }
end

-- Whether a number is in a set.
local function holds(set, n)
  for _, range in ipairs(set) do
    if n >= range[1] and n <= range[2] then return true end
  end
  return false
end

--- The parts of a snapshot's text.
---@param text string  "lo:hi:a,b,..."
---@return integer lo, integer hi, integer[] running
function xids.parse(text)
  local lo, hi, list = text:match "^(%d+):(%d+):([%d,]*)$"
  local running = {}
  for n in (list or ""):gmatch "%d+" do running[#running + 1] = math.tointeger(n) end
  return math.tointeger(lo), math.tointeger(hi), running
end

--- What was seen, once the snapshot is taken. A transaction whose commit is recorded and that is not yet
--- visible (it may wait for a standby) is in progress to the snapshot, and was committed to some servers
--- when asked: neither it nor what came after it counts as seen.
---@param seen extract.Seen
---@param running integer[]  of the snapshot
---@param before? extract.Seen
---@return extract.Seen
function xids.confirm(seen, running, before)
  local first
  for _, n in ipairs(running) do
    if n < seen.below and not holds(seen.open, n) then first = math.min(first or n, n) end
  end
  if not first then return seen end
  if not before then return xids.cut({ below = first, open = seen.open }) end
  local kept = xids.without(seen.open, { { first, LAST } })
  for _, range in ipairs(xids.without(before.open, { { 0, first - 1 } })) do kept[#kept + 1] = range end
  return xids.cut({ below = math.max(before.below, math.min(first, seen.below)), open = kept }, before)
end

-- ---- the rows ----

-- A row's number, given one behind that of every row.
local function number_sql(next_xid)
  return ("(%d - ((%d - xmin::text::bigint) & %d))"):format(next_xid, next_xid, WRAP - 1)
end

--- The number that an xmin stands for.
---@param xmin integer      of 32 bits
---@param next_xid integer  of 64
---@return integer
function xids.complete(xmin, next_xid) return next_xid - ((next_xid - xmin) & (WRAP - 1)) end

local FEW = 3

-- Numbers that no transaction has: their rows are frozen.
local function permanent(set)
  local out = {}
  for k = set[1][1] // WRAP, set[#set][2] // WRAP do out[#out + 1] = { k * WRAP, k * WRAP + FIRST - 1 } end
  return out
end

-- The condition, in full: it makes a text of every xmin, for there is no shorter way to a number.
local function exact(set, next_xid, version)
  local number, parts = number_sql(next_xid), {}
  if #set > FEW and version >= 140000 then
    for i, range in ipairs(set) do parts[i] = ("[%d,%d]"):format(range[1], range[2]) end
    local multirange = ("int8multirange '{%s}' @> %s"):format(table.concat(parts, ","), number)
    if set[1][1] > 0 then return multirange end
    return ("(%s OR xmin::text::bigint < %d)"):format(multirange, FIRST)
  end
  for i, range in ipairs(set) do
    parts[i] = range[1] > 0 and ("%s BETWEEN %d AND %d"):format(number, range[1], range[2])
      or ("%s <= %d"):format(number, range[2])
  end
  if set[1] and set[1][1] == 0 then table.insert(parts, 1, ("xmin::text::bigint < %d"):format(FIRST)) end
  return #parts > 0 and ("(%s)"):format(table.concat(parts, " OR ")) or "FALSE"
end

local NEAR = 1 << 30 -- transactions between which age() compares

-- "older than that one", decided by age(), which is quick; nil if that one is too far back. Of frozen rows it
-- says so only if they are that old.
local function age_sql(n, next_xid)
  local xid = n & (WRAP - 1)
  return next_xid - n < NEAR and xid >= FIRST and ("age('%d'::xid)"):format(xid) or nil
end

--- The condition that a row's number is in a set.
---@param set integer[][]
---@param next_xid integer   the end of the snapshot: no row that it shows has this number or a later one
---@param version integer    of the server
---@return string
function xids.condition(set, next_xid, version)
  if not set[1] then return "FALSE" end
  if set[1][1] == 0 then
    local age, full = age_sql(set[1][2] + 1, next_xid), exact(set, next_xid, version)
    return age and ("(age(xmin) > %s OR %s)"):format(age, full) or full
  end
  set = xids.without(set, permanent(set))
  local age, full = set[1] and age_sql(set[1][1], next_xid), exact(set, next_xid, version)
  return age and ("(age(xmin) <= %s AND %s)"):format(age, full) or full
end

return xids
