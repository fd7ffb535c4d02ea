--- Manual pages out of the doc comments of a module (LuaCATS).
---
--- `parse` reads the comments of stdlib/NAME.lua into plain tables, `render` makes a page of
--- text. The same comments feed editors, so nothing is written twice.

local docs = {}

---@class docs.Name
---@field name string       with a final "?" when optional
---@field type string
---@field text string

---@class docs.Item
---@field kind "function"|"class"|"alias"|"value"
---@field name string
---@field args? string
---@field lines string[]    the description
---@field params docs.Name[]
---@field returns docs.Name[]
---@field fields docs.Name[]
---@field parent? string
---@field type? string      of an alias

---@class docs.Page
---@field lines string[]    the head comment
---@field items docs.Item[]

local OPEN, CLOSE = { ["("] = true, ["<"] = true, ["{"] = true, ["["] = true },
  { [")"] = true, [">"] = true, ["}"] = true, ["]"] = true }

-- Splits "fun(row: table): table?  what it is" into the type and the rest.
local function split_type(text)
  local depth, quoted = 0, false
  for i = 1, #text do
    local c = text:sub(i, i)
    if c == '"' then quoted = not quoted end
    if not quoted then
      if OPEN[c] then depth = depth + 1 elseif CLOSE[c] then depth = depth - 1 end
      local before = text:sub(1, i - 1):match "%S?$"
      if c == " " and depth <= 0 and not before:find "[:,|]" and not text:find("^%s*[|,]", i) then
        return text:sub(1, i - 1), (text:sub(i):gsub("^%s+", ""))
      end
    end
  end
  return text, ""
end

local function named(text)
  local name, rest = text:match "^(%[[^%]]*%]%??)%s+(.*)$"
  if not name then name, rest = text:match "^(%S+)%s*(.*)$" end
  local kind, description = split_type(rest or "")
  return { name = name or "", type = kind, text = (description:gsub("^#%s*", "")) }
end

-- "T name description" or "T description": a name only where luaCATS wants one is told by
-- two blanks or a line end behind it.
local function returned(text)
  local kind, rest = split_type(text)
  local name, description = rest:match "^([%a_][%w_]*)%s%s+(.*)$"
  if not name and rest:match "^[%a_][%w_]*$" then name, description = rest, "" end
  return { name = name or "", type = kind, text = description or rest }
end

local TAGS = {
  param = function(item, text) table.insert(item.params, named(text)) return item.params[#item.params] end,
  field = function(item, text) table.insert(item.fields, named(text)) return item.fields[#item.fields] end,
  ["return"] = function(item, text)
    table.insert(item.returns, returned(text))
    return item.returns[#item.returns]
  end,
  class = function(item, text)
    item.kind = "class"
    item.name, item.parent = text:match "^(%S+)%s*:%s*(.*)$"
    item.name = item.name or text:match "^%S+"
  end,
  alias = function(item, text)
    item.kind = "alias"
    item.name, item.type = text:match "^(%S+)%s*(.*)$"
    return item
  end,
}

local function new_item()
  return { lines = {}, params = {}, returns = {}, fields = {} }
end

-- The items of one block of `---` lines; a block may hold several classes and aliases.
local function read_block(block)
  local items, item, last = {}, new_item(), nil
  for _, line in ipairs(block) do
    local tag, text = line:match "^@(%a+)%s*(.*)$"
    if (tag == "class" or tag == "alias") and item.kind then
      items[#items + 1] = item
      item, last = new_item(), nil
    end
    if tag then
      last = TAGS[tag] and TAGS[tag](item, text)
    elseif last and line:find "%S" and (not line:find "^ " or line:find "^    ") then -- a tag goes on
      if last == item then item.type = item.type .. line
      else last.text = last.text .. " " .. line:gsub("^%s+", "") end
    else
      last = nil
      item.lines[#item.lines + 1] = (line:gsub("^ ", "", 1))
    end
  end
  items[#items + 1] = item
  return items
end

-- What the code line behind a block declares.
local function declared(line)
  local name, args = line:match "^function%s+([%w_.:]+)%s*(%b())"
  if name then return "function", name, args end
  args = line:match "^%s+__call%s*=%s*function(%b())"
  if args then return "function", "", "(" .. args:sub(2, -2):gsub("^[^,]*,?%s*", "") .. ")" end
  name = line:match "^([%w_]+%.[%w_.]+)%s*="
  if name then return "value", name end
end

--- Reads the doc comments of a module's text.
---@param text string
---@return docs.Page
function docs.parse(text)
  local page, block, seen_code, classes = { lines = {}, items = {} }, {}, false, {}
  local function take(line)
    local items = read_block(block)
    local last = items[#items]
    local kind, name, args = declared(line)
    local owner = line:match "^local%s+([%w_]+)%s*="
    if not last.kind and kind then
      last.kind, last.name, last.args = kind, name, args
      if kind == "function" and name:match "^([%w_]+)[.:]" and classes[name:match "^([%w_]+)"] then
        last.of = classes[name:match "^([%w_]+)"]
      end
    elseif last.kind == "class" and owner then
      classes[owner] = last.name
    end
    for _, item in ipairs(items) do
      if item.kind then page.items[#page.items + 1] = item end
    end
    if not seen_code and not last.kind and #page.items == 0 then
      if #page.lines > 0 then page.lines[#page.lines + 1] = "" end
      table.move(last.lines, 1, #last.lines, #page.lines + 1, page.lines)
    end
  end
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    local comment = line:match "^%s*%-%-%-(.*)$"
    if comment then
      block[#block + 1] = comment:match "^@meta" and "" or comment
    else
      if #block > 0 then take(line) end
      block = {}
      if line:find "%S" then seen_code = true end
    end
  end
  return page
end

local function wrap(text, indent, width)
  return indent .. require("tidemill.cli.options").wrap(text, width - #indent, indent)
end

-- Name, type and text of parameters or fields.
local function add_names(out, names, indent)
  for _, one in ipairs(names) do
    local name = one.name ~= "" and one.name .. "  " or ""
    out[#out + 1] = indent .. name .. one.type
    if one.text ~= "" then out[#out + 1] = wrap(one.text, indent .. "    ", 88) end
  end
end

local function add_lines(out, lines, indent)
  local first, last = 1, #lines
  while first <= last and not lines[first]:find "%S" do first = first + 1 end
  while last >= first and not lines[last]:find "%S" do last = last - 1 end
  for i = first, last do out[#out + 1] = lines[i] == "" and "" or indent .. lines[i] end
end

local function signature(item)
  local types = {}
  for _, one in ipairs(item.returns) do types[#types + 1] = one.type end
  local result = #types > 0 and " -> " .. table.concat(types, ", ") or ""
  return item.name .. (item.args or "") .. result
end

local function add_item(out, item)
  out[#out + 1] = ""
  out[#out + 1] = item.kind == "class" and item.name .. (item.parent and " (and all of " .. item.parent .. ")" or "")
    or item.kind == "alias" and ("%s = %s"):format(item.name, item.type) or signature(item)
  add_lines(out, item.lines, "    ")
  add_names(out, item.params, "      ")
  add_names(out, item.fields, "      ")
  for _, one in ipairs(item.returns) do
    if one.text ~= "" or one.name ~= "" then
      local name = one.name ~= "" and one.name or "returns"
      out[#out + 1] = wrap(("%s: %s%s"):format(name, one.type, one.text ~= "" and ", " .. one.text or ""), "      ", 88)
    end
  end
end

local function public(item)
  return not item.name:find "^_" and not item.name:find "%._"
end

--- The page of a module as text.
---@param name string
---@param page docs.Page
---@return string
function docs.render(name, page)
  local out = { ("module %s"):format(name), "" }
  add_lines(out, page.lines, "")
  local sections = { { "FUNCTIONS", "function", false }, { "METHODS", "function", true }, { "VALUES", "value" },
    { "TYPES", "class" } }
  for _, section in ipairs(sections) do
    local started = false
    for _, item in ipairs(page.items) do
      local wanted = item.kind == section[2] or section[2] == "class" and item.kind == "alias"
      if wanted and section[3] ~= nil then wanted = (item.of ~= nil) == section[3] end
      if wanted and public(item) then
        if not started then
          out[#out + 1] = ""
          out[#out + 1] = section[1]
          started = true
        end
        if item.name == "" then item.name = name end
        add_item(out, item)
      end
    end
  end
  return table.concat(out, "\n") .. "\n"
end

--- The first sentence of a module's head comment, for a table of modules.
---@param page docs.Page
---@return string
function docs.summary(page)
  local words = {}
  for _, line in ipairs(page.lines) do
    if line:find "%S" then words[#words + 1] = line elseif #words > 0 then break end
  end
  local text = table.concat(words, " ")
  return text:match "^(.-)%.%s" or (text:gsub("%.%s*$", ""))
end

return docs
