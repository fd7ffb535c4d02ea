--- The body of a flow.loop node: its SQL for each item of a list, or a number of times.
---
--- Items go in order, `batch` of them a transaction, with a pause between batches. The first
--- batch that fails ends the loop: what batches before it did stays, and the error names its item.
--- A list that is empty text has no items. Values are put into the SQL as they are, once; they
--- are never looked into.
---
--- A loop that is `exactly_once` records each batch in the target's ledger, in its transaction: a
--- repeated attempt goes on behind the turns that were committed.

local errors = require "tidemill.errors"
local once = require "tidemill.once"
local references = require "tidemill.references"
local script = require "tidemill.script"
local time = require "time"

local MOST_ITEMS, MOST_COUNT = 100000, 100
local SHOWN = 60 -- bytes of a value in messages

local function split(one)
  if type(one.list) == "table" then return one.list end
  local items, from, text = {}, 1, one.list
  if text == "" then return items end
  while true do
    local start, stop = text:find(one.pattern or one.separator, from, one.pattern == nil)
    if not start then break end
    items[#items + 1] = text:sub(from, start - 1)
    if #items > MOST_ITEMS then break end
    from = stop + 1
  end
  items[#items + 1] = text:sub(from)
  return items
end

-- The variables of each turn: a function of its number; and how many turns there are.
local function turns_of(spec)
  if not spec.lists then
    local count = math.tointeger(tonumber(spec.count))
    if not count or count < 1 or count > MOST_COUNT then
      errors.usage(("'count' wants an integer from 1 to %d, got '%s'"):format(MOST_COUNT, tostring(spec.count)))
    end
    return count, function(i) return { ["loop.index"] = tostring(i) } end
  end
  local lists = {}
  for i, one in ipairs(spec.lists) do
    lists[i] = split(one)
    if #lists[i] > MOST_ITEMS then errors.usage(("list '%s' has more than %d items"):format(one.name, MOST_ITEMS)) end
    if #lists[i] ~= #lists[1] then
      errors.usage(("lists of unequal length: '%s' has %d items, '%s' has %d"):format(spec.lists[1].name, #lists[1],
        one.name, #lists[i]), "lists are walked in step, one item of each a turn")
    end
  end
  return #lists[1], function(i)
    local vars = { ["loop.index"] = tostring(i) }
    for n, one in ipairs(spec.lists) do vars[one.name] = lists[n][i] end
    return vars
  end
end

-- "turn 3 (loop.item = 'eu')"
local function name_of(spec, i, vars)
  local words = {}
  for _, one in ipairs(spec.lists or {}) do
    local value = vars[one.name]
    if #value > SHOWN then value = value:sub(1, (utf8.offset(value, 0, SHOWN - 2) or SHOWN) - 1) .. "..." end
    words[#words + 1] = ("%s = '%s'"):format(one.name, value)
  end
  return ("turn %d%s"):format(i, #words > 0 and (" (%s)"):format(table.concat(words, ", ")) or "")
end

local function run_turn(ctx, conn, spec, vars)
  local texts = {}
  for i, template in ipairs(spec.template) do
    texts[i] = references.render(template, function(name) return vars[name] end)
  end
  local list = script.statements(ctx, "sql", texts, conn)
  script.refuse_control(list, "a loop, whose batches are transactions")
  return script.run(ctx, conn, list)
end

-- One batch, turns `first` to `last`; returns the rows that it affected.
local function run_batch(ctx, conn, spec, first, last, vars_of, claim)
  local tx <close> = conn:transaction()
  local rows
  for i = first, last do
    local vars = vars_of(i)
    local ok, result = pcall(run_turn, ctx, conn, spec, vars)
    if not ok then
      local err = errors.from(result)
      err.message = ("%s: %s"):format(name_of(spec, i, vars), err.message)
      if first > 1 then
        err.detail = ("turns 1 to %d are committed%s"):format(first - 1, err.detail and "\n" .. err.detail or "")
      end
      error(err, 0)
    end
    if result then rows = (rows or 0) + result end
  end
  if claim then
    once.commit_pieces(conn, tx, claim, { { key = ("turns %d to %d"):format(first, last), rows = rows or 0 } })
  else
    tx:commit()
  end
  return rows or 0
end

-- How many turns earlier attempts have committed, and the rows of those. A restored run may go on
-- with another version, whose batches are larger or smaller: turns count, not batches.
local function committed(ctx, conn, claim)
  local turns, rows = 0, 0
  for key, piece in pairs(claim and claim:begun(conn).objects or {}) do
    turns, rows = math.max(turns, tonumber(key:match "^turns %d+ to (%d+)$") or 0), rows + piece.rows
  end
  if turns > 0 then ctx:log("info", "turns 1 to %d were committed by an earlier attempt", turns) end
  return turns, rows
end

-- All turns that are left, batch by batch; returns the rows of all.
local function run_batches(ctx, conn, spec, count, vars_of, claim)
  local done, rows = committed(ctx, conn, claim)
  for first = done + 1, count, spec.batch do
    local last = math.min(first + spec.batch - 1, count)
    if first > done + 1 and spec.pause > 0 then time.sleep(spec.pause) end
    rows = rows + run_batch(ctx, conn, spec, first, last, vars_of, claim)
    ctx:progress { rows = rows, detail = ("turn %d of %d"):format(last, count) }
  end
  return rows
end

-- Nothing but the end is left to record.
local function complete(ctx, conn, spec, claim, rows)
  local tx <close> = conn:transaction()
  once.commit(ctx, spec.on, conn, tx, claim, { row_count = rows })
end

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local count, vars_of = turns_of(spec)
  local rows = 0
  if count == 0 then
    ctx:log("info", "the list is empty: nothing to do")
  else
    local conn <close> = ctx:postgres(spec.on)
    local claim = spec.exactly_once and once.claim(ctx, conn) or nil
    if claim and claim.done then
      rows = claim.done.row_count
    else
      rows = run_batches(ctx, conn, spec, count, vars_of, claim)
      if claim then complete(ctx, conn, spec, claim, rows) end
    end
  end
  ctx:progress { rows = rows, detail = "", done = true }
  ctx:output("rows", rows)
  ctx:output("iterations", count)
end
