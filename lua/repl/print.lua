--- Values as a person reads them: tables sorted and indented, result sets aligned.
---
--- Nothing that is printed runs code of the value's, but for `__tostring`; a value that
--- refers to itself, is deep, long or wide is cut, and says so.

local errors = require "tidemill.errors"
local tty = require "tidemill.tty"

local show = {}

local NULL = require "json".null

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch "%a+" do KEYWORDS[word] = true end

---@class tidemill.ShowOptions
---@field width? integer   columns of a line (default 100)
---@field depth? integer   tables in tables (default 5)
---@field items? integer   entries of one table (default 100)
---@field text? integer    bytes of a text inside a table (default 1000)
---@field limit? integer   rows of a result set (default 50)
---@field cut? boolean     cut cells so that a result set fits into width (default false)

local DEFAULT = { width = 100, depth = 5, items = 100, text = 1000, limit = 50 }
-- The options that were given, and the default of each other.
local function settled(given)
  local options = {}
  for name, value in pairs(DEFAULT) do options[name] = value end
  for name, value in pairs(given or {}) do options[name] = value end
  return options
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"', ["\0"] = "\\0" }

local function escape(c) return ESCAPES[c] or ("\\x%02x"):format(c:byte()) end

-- Text in quotes, as Lua would read it; bytes that are not UTF-8 as \xNN.
local function quoted(text, most)
  local more = ""
  if most and #text > most then
    local cut = utf8.len(text) and utf8.offset(text, 0, most + 1) - 1 or most
    more = ("... (%d bytes)"):format(#text)
    text = text:sub(1, cut)
  end
  text = text:gsub('[%c\\"\127]', escape)
  if not utf8.len(text) then text = text:gsub("[\x80-\xff]", escape) end
  return '"' .. text .. '"' .. more
end

local function function_text(f)
  local info = debug.getinfo(f, "S")
  if info.what == "C" then return "function (native)" end
  return ("function (%s:%d)"):format(info.short_src, info.linedefined)
end

-- A value that is no table of its own, or nil.
local function plain_text(value, options, nested)
  local kind = type(value)
  if value == NULL then return "null" end
  if kind == "string" then return quoted(value, nested and options.text or nil) end
  if kind == "function" then return function_text(value) end
  if errors.is(value) then
    return nested and ("error: " .. tostring(value)) or table.concat(errors.lines(value), "\n")
  end
  local meta = kind == "table" and debug.getmetatable(value) or nil
  if kind == "table" and not (type(meta) == "table" and rawget(meta, "__tostring")) then return nil end
  local ok, text = pcall(tostring, value)
  return ok and text or ("%s (its __tostring fails)"):format(kind)
end

local function rank(key)
  local kind = type(key)
  return kind == "number" and 1 or kind == "string" and 2 or kind == "boolean" and 3 or 4
end

-- Keys that are not of the array part, in an order that is the same each time.
local function sorted_keys(value, count)
  local keys = {}
  for key in next, value do
    if not (math.type(key) == "integer" and key >= 1 and key <= count) then keys[#keys + 1] = key end
  end
  table.sort(keys, function(a, b)
    local ra, rb = rank(a), rank(b)
    if ra ~= rb then return ra < rb end
    if ra <= 2 then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local function key_text(key, options)
  if type(key) == "string" and key:match "^[%a_][%w_]*$" and not KEYWORDS[key] then return key end
  return "[" .. (plain_text(key, options, true) or tostring(key)) .. "]"
end

local render

-- The entries of a table as texts; each may hold several lines.
local function entries(value, options, depth, path)
  local out, count = {}, rawlen(value)
  local keys = sorted_keys(value, count)
  for i = 1, math.min(count, options.items) do
    out[#out + 1] = render(rawget(value, i), options, depth, path)
  end
  local left = options.items - #out
  for i = 1, math.min(#keys, left) do
    out[#out + 1] = ("%s = %s"):format(key_text(keys[i], options),
      render(rawget(value, keys[i]), options, depth, path))
  end
  local more = count + #keys - #out
  if more > 0 then out[#out + 1] = ("... %d more"):format(more) end
  return out
end

local function name_of(value)
  local meta = debug.getmetatable(value)
  local name = type(meta) == "table" and rawget(meta, "__name")
  return type(name) == "string" and name .. " " or ""
end

render = function(value, options, depth, path)
  local text = plain_text(value, options, depth > 0)
  if text then return text end
  local name = name_of(value)
  if path[value] then return name .. "{ itself }" end
  if next(value) == nil then return name .. "{}" end
  if depth >= options.depth then return name .. "{ ... }" end
  path[value] = true
  local parts = entries(value, options, depth + 1, path)
  path[value] = nil
  local line = name .. "{ " .. table.concat(parts, ", ") .. " }"
  if not line:find "\n" and tty.width(line) + 2 * depth <= options.width then return line end
  local indent = ("  "):rep(depth + 1)
  return name .. "{\n" .. indent .. table.concat(parts, ",\n" .. indent) .. "\n" .. ("  "):rep(depth) .. "}"
end

-- ---- result sets ----

local function is_result(value)
  if type(value) ~= "table" or debug.getmetatable(value) then return false end
  local columns = rawget(value, "columns")
  return type(columns) == "table" and type(rawget(value, "command")) == "string"
end

local function cell_text(value)
  if value == nil or value == NULL then return "NULL" end
  if math.type(value) == "float" and value == math.floor(value) and math.abs(value) < 1e15 then
    return ("%.1f"):format(value)
  end
  local text = tostring(value)
  if utf8.len(text) then return (text:gsub("[%c\127]", escape)) end
  return "\\x" .. text:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
end

-- Makes the widest columns narrower until the line fits.
local function shrink(widths, room)
  local total = 3 * (#widths - 1) + 2
  for _, width in ipairs(widths) do total = total + width end
  while total > room do
    local widest = 1
    for i, width in ipairs(widths) do
      if width > widths[widest] then widest = i end
    end
    if widths[widest] <= 8 then return end
    widths[widest] = widths[widest] - 1
    total = total - 1
  end
end

local function padded(text, width, right)
  local used = tty.width(text)
  if used > width then
    text, used = tty.cut(text, width - 1)
    text, used = text .. "…", used + 1
  end
  local blanks = (" "):rep(width - used)
  return right and blanks .. text or text .. blanks
end

local function rows_line(shown, count)
  if shown < count then return ("(%d of %d rows; .limit N shows more)"):format(shown, count) end
  return ("(%d row%s)"):format(count, count == 1 and "" or "s")
end

-- Numbers stand to the right; numeric comes from a server as text.
local function is_number(value)
  return type(value) == "number" or type(value) == "string" and value:find "^-?%d+%.?%d*$" ~= nil
end

--- A result set as a table with aligned columns, then the number of rows.
---@param result pg.Result
---@param given? tidemill.ShowOptions
---@return string
function show.rows(result, given)
  local options = settled(given)
  local shown, columns = math.min(#result, options.limit), result.columns
  local cells, widths, numeric, titles = {}, {}, {}, {}
  for c, name in ipairs(columns) do
    titles[c] = cell_text(name)
    widths[c], numeric[c] = math.max(tty.width(titles[c]), 1), shown > 0
    for r = 1, shown do
      local value = result[r][name]
      cells[r] = cells[r] or {}
      cells[r][c] = cell_text(value)
      widths[c] = math.max(widths[c], tty.width(cells[r][c]))
      numeric[c] = numeric[c] and (value == nil or value == NULL or is_number(value))
    end
  end
  if options.cut then shrink(widths, options.width) end
  local out = {}
  local function line(texts, joint)
    out[#out + 1] = (" " .. table.concat(texts, joint)):gsub("%s+$", "")
  end
  local heads, rules = {}, {}
  for c, title in ipairs(titles) do
    heads[c], rules[c] = padded(title, widths[c], numeric[c]), ("-"):rep(widths[c] + 2)
  end
  line(heads, " | ")
  out[#out + 1] = table.concat(rules, "+")
  for r = 1, shown do
    local texts = {}
    for c in ipairs(columns) do texts[c] = padded(cells[r][c], widths[c], numeric[c]) end
    line(texts, " | ")
  end
  out[#out + 1] = rows_line(shown, #result)
  return table.concat(out, "\n")
end

-- What Conn:exec returns: each statement's rows, or its command.
local function is_done(value)
  return type(value) == "table" and type(rawget(value, "command")) == "string" and type(rawget(value, 1)) == "table"
    and type(rawget(value[1], "command")) == "string"
end

--- What statements did, as `Conn:exec` returns it: their rows, or their command tags.
---@param done pg.Done
---@param given? tidemill.ShowOptions
---@return string
function show.done(done, given)
  local out = {}
  for _, one in ipairs(done) do
    if one.result and #one.result.columns > 0 then
      out[#out + 1] = show.rows(one.result, given)
    elseif one.command ~= "" then
      out[#out + 1] = one.command
    end
  end
  return table.concat(out, "\n")
end

--- Any value as text, of one line or several, without a line end.
---@param value any
---@param given? tidemill.ShowOptions
---@return string
function show.value(value, given)
  local options = settled(given)
  if is_done(value) then return show.done(value, given) end
  if is_result(value) then
    if #value.columns == 0 then return value.command end
    return show.rows(value, given)
  end
  return render(value, options, 0, {})
end

return show
