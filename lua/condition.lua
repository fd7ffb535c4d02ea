--- Conditions: `${rows} > 0 and ${region} in ('eu', 'us')`, for `when` and flow.branch.
---
---     condition  = term { "or" term }          term = factor { "and" factor }
---     factor     = "not" factor | "(" condition ")" | operand [comparison]
---     comparison = operator operand | ["not"] "in" "(" operand { "," operand } ")"
---                | ["not"] ("like" | "matches") operand
---     operator   = "=" "==" "!=" "<>" "<" "<=" ">" ">="
---     operand    = ${name} | 'text' | "text" | a word or number
---
--- A text is parsed once, when the flow is checked, and values are put in afterwards, so that
--- no value can change what a condition means. Two numbers are compared as numbers, exactly;
--- anything else as text, byte by byte. `like` knows % and _, `matches` is a Lua pattern that
--- may hit anywhere. Quoted text may hold ${name} too; a doubled quote in it is one quote. A
--- variable that stands alone is true or false by its value: `success`, `true`, `t`, `yes`, `on`
--- and numbers but 0 are true; `failed`, `skipped`, `canceled`, the states of a node that is not
--- over (`waiting`, `running`, `polling`, `retrying`, `lost`), `false`, `f`, `no`, `off`, 0 and nothing are
--- false.

local errors = require "tidemill.errors"
local references = require "tidemill.references"

local condition = {}

---@class tidemill.Condition
---@field items {text: string?, tree: table?, call: function?}[]  all of them must hold
local Condition = { __name = "tidemill.Condition" }
Condition.__index = Condition

local MAX_DEPTH = 100 -- of parentheses and "not"
local WORDS = { ["and"] = true, ["or"] = true, ["not"] = true, ["in"] = true, like = true, matches = true }
local OPERATORS = { ["="] = "=", ["=="] = "=", ["!="] = "!=", ["<>"] = "!=", ["<"] = "<", ["<="] = "<=",
  [">"] = ">", [">="] = ">=" }

-- ---- reading ----

-- A fault of the text: thrown as a table, caught by `condition.parse`.
local function refuse(at, message, hint)
  error({ fault = message, at = at, hint = hint }, 0)
end

local function quoted(text, at)
  local quote, parts, from = text:sub(at, at), {}, at + 1
  while true do
    local stop = text:find(quote, from, true)
    if not stop then refuse(at, ("the quote %s is never closed"):format(quote)) end
    parts[#parts + 1] = text:sub(from, stop - 1)
    if text:sub(stop + 1, stop + 1) ~= quote then
      return table.concat(parts, quote), stop + 1
    end
    from = stop + 2
  end
end

-- The tokens of a text: { kind = "variable"|"text"|"word"|"operator"|"(" ..., value, at }.
local function tokens_of(text)
  local tokens, at = {}, 1
  local function add(kind, value, stop)
    tokens[#tokens + 1] = { kind = kind, value = value, at = at }
    at = stop
  end
  while true do
    at = text:find("%S", at)
    if not at then break end
    local c = text:sub(at, at)
    if text:sub(at, at + 1) == "${" then
      local reference = references.find(text:sub(at))[1]
      if reference.fault then
        refuse(at, ("malformed variable '%s'"):format(reference.fault), "a variable is ${name}")
      end
      add("variable", reference.name, at + #reference.name + 3)
    elseif c == "'" or c == '"' then
      add("text", quoted(text, at))
    elseif c:find "[(),]" then
      add(c, c, at + 1)
    elseif OPERATORS[text:match("^[=!<>]+", at)] then
      local operator = text:match("^[=!<>]+", at)
      add("operator", OPERATORS[operator], at + #operator)
    elseif c:find "[=!<>]" then
      local operator = text:match("^[=!<>]+", at)
      refuse(at, ("'%s' is no operator"):format(operator), "operators: = == != <> < <= > >= in, like, matches")
    else
      local word = text:match("^[%w_.:/%%+*@\x80-\xff-]+", at)
      if not word then refuse(at, ("'%s' has no meaning here"):format(c)) end
      local is_keyword = WORDS[word:lower()]
      add(is_keyword and "keyword" or "word", is_keyword and word:lower() or word, at + #word)
    end
  end
  tokens[#tokens + 1] = { kind = "end", value = "the end", at = #text + 1 }
  return tokens
end

-- A reader of tokens with one method for each rule of the grammar above.
local Reader = {}
Reader.__index = Reader

function Reader:peek(kind, value)
  local token = self.tokens[self.position]
  return token.kind == kind and (value == nil or token.value == value) and token or nil
end

function Reader:take(kind, value)
  local token = self:peek(kind, value)
  if token then self.position = self.position + 1 end
  return token
end

function Reader:unexpected(wanted)
  local token = self.tokens[self.position]
  refuse(token.at, ("%s where %s is wanted"):format(token.kind == "end" and "the end" or ("'%s'"):format(token.value),
    wanted))
end

function Reader:operand()
  local token = self:take "variable" or self:take "text" or self:take "word"
  if not token then self:unexpected "a variable or a value" end
  if token.kind == "variable" then return { variable = token.value, at = token.at } end
  local literal = { literal = token.value, at = token.at, bare = token.kind == "word" }
  if token.kind == "text" and token.value:find("${", 1, true) then
    for _, reference in ipairs(references.find(token.value)) do
      if reference.fault then
        refuse(token.at, ("malformed variable '%s'"):format(reference.fault), "a variable is ${name}")
      end
      literal.varies = true
    end
  end
  return literal
end

local function is_fixed(operand)
  return operand.literal ~= nil and not operand.varies
end

local function no_variable(operand)
  local name = operand.bare and operand.literal:match "^[%w_.]+$"
  refuse(operand.at, ("'%s' is a fixed text, not a variable"):format(operand.literal),
    name and not tonumber(name) and ("write ${%s} for the variable"):format(name)
      or "a condition compares a variable: ${rows} > 0")
end

function Reader:list()
  if not self:take "(" then self:unexpected "'('" end
  local values = { self:operand() }
  while self:take "," do values[#values + 1] = self:operand() end
  if not self:take ")" then self:unexpected "',' or ')'" end
  return values
end

function Reader:comparison()
  local left = self:operand()
  local operator = self:take "operator"
  if operator then
    local right = self:operand()
    if is_fixed(left) and is_fixed(right) then no_variable(left.bare and left or right.bare and right or left) end
    return { op = operator.value, left = left, right = right }
  end
  local negated = self:take("keyword", "not")
  local word = self:take("keyword", "in") or self:take("keyword", "like") or self:take("keyword", "matches")
  if not word then
    if negated then self:unexpected "in, like or matches" end
    if left.literal then no_variable(left) end
    return { op = "truth", left = left }
  end
  local node = { op = word.value, left = left }
  if word.value == "in" then node.list = self:list() else node.right = self:operand() end
  if is_fixed(left) then no_variable(left) end
  return negated and { op = "not", node } or node
end

function Reader:factor(depth)
  if depth > MAX_DEPTH then refuse(self.tokens[self.position].at, "too deeply nested") end
  if self:take("keyword", "not") then return { op = "not", self:factor(depth + 1) } end
  if self:take "(" then
    local inner = self:choice(depth + 1)
    if not self:take ")" then self:unexpected "')'" end
    return inner
  end
  return self:comparison()
end

function Reader:chain(word, part, depth)
  local parts = { op = word, part(self, depth) }
  while self:take("keyword", word) do parts[#parts + 1] = part(self, depth) end
  return #parts == 1 and parts[1] or parts
end

function Reader:term(depth) return self:chain("and", Reader.factor, depth) end
function Reader:choice(depth) return self:chain("or", Reader.term, depth) end

--- Reads one text. Nil, what is wrong, the byte where, and perhaps a hint, if it is none.
---@param text string
---@return table? tree, string? fault, integer? at, string? hint
function condition.parse(text)
  local ok, result = pcall(function()
    local reader = setmetatable({ tokens = tokens_of(text), position = 1 }, Reader)
    if reader:peek "end" then refuse(1, "an empty condition") end
    local tree = reader:choice(1)
    if not reader:peek "end" then reader:unexpected "and, or, or the end" end
    return tree
  end)
  if ok then return result end
  if type(result) ~= "table" or not result.fault then error(result, 0) end
  return nil, result.fault, result.at, result.hint
end

--- A condition out of a text, a list of texts (all must hold), or a function that is given
--- the variables. `report(fault, text, at, hint)` is called for each text that is none.
---@param value string|string[]|fun(vars: table): boolean
---@param report fun(fault: string, text: string, at: integer, hint: string?)
---@return tidemill.Condition?  nil if the value is none of these
function condition.new(value, report)
  if type(value) == "function" then return setmetatable({ items = { { call = value } } }, Condition) end
  if type(value) == "string" then value = { value } end
  if type(value) ~= "table" or getmetatable(value) or #value == 0 then return nil end
  local count, items = 0, {}
  for _ in pairs(value) do count = count + 1 end
  if count ~= #value then return nil end
  for i, text in ipairs(value) do
    if type(text) ~= "string" then return nil end
    local tree, fault, at, hint = condition.parse(text)
    if fault then report(fault, text, at, hint) end
    items[i] = { text = text, tree = tree }
  end
  return setmetatable({ items = items }, Condition)
end

--- Whether a value is a condition.
---@param value any
---@return boolean
function condition.is(value) return getmetatable(value) == Condition end

--- Its texts; a function is left out.
---@param cond tidemill.Condition
---@return string[]
function condition.texts(cond)
  local texts = {}
  for _, item in ipairs(cond.items) do texts[#texts + 1] = item.text end
  return texts
end

--- Every reference in its texts, in order: { name, text = the text, at = byte in it }.
---@param cond tidemill.Condition
---@return {name: string, text: string, at: integer}[]
function condition.references(cond)
  local found = {}
  for _, text in ipairs(condition.texts(cond)) do
    for _, reference in ipairs(references.find(text)) do
      if reference.name then found[#found + 1] = { name = reference.name, text = text, at = reference.at } end
    end
  end
  return found
end

--- The function of a condition that is one.
---@param cond tidemill.Condition
---@return function?
function condition.call(cond) return cond.items[1].call end

-- ---- evaluating ----

-- A decimal number as sign, whole digits and fraction, without idle zeros; nil if it is none.
local function decimal(text)
  local sign, whole, fraction = text:match "^%s*([+-]?)(%d+)%.?(%d*)%s*$"
  if not sign then
    sign, fraction = text:match "^%s*([+-]?)%.(%d+)%s*$"
    if not sign then return nil end
    whole = ""
  end
  whole, fraction = whole:gsub("^0+", ""), fraction:gsub("0+$", "")
  local zero = whole == "" and fraction == ""
  return { negative = sign == "-" and not zero, whole = whole, fraction = fraction }
end

local function order(a, b) return a < b and -1 or a > b and 1 or 0 end

local function compare_decimals(a, b)
  if a.negative ~= b.negative then return a.negative and -1 or 1 end
  local by_size = #a.whole ~= #b.whole and order(#a.whole, #b.whole) or order(a.whole, b.whole)
  if by_size == 0 then by_size = order(a.fraction, b.fraction) end
  return a.negative and -by_size or by_size
end

-- A number in scientific notation, as databases write large ones.
local function scientific(text)
  return text:match "^%s*[+-]?[%d.]+[eE][+-]?%d+%s*$" and tonumber(text) or nil
end

-- -1, 0 or 1.
local function compare(a, b)
  local left, right = decimal(a), decimal(b)
  if left and right then return compare_decimals(left, right) end
  local x, y = left and tonumber(a) or scientific(a), right and tonumber(b) or scientific(b)
  if x and y then return order(x, y) end
  -- not "<": the order of texts must not depend on the locale
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return order(a:byte(i), b:byte(i)) end
  end
  return order(#a, #b)
end

local TRUTH = { success = true, ["true"] = true, t = true, yes = true, y = true, on = true,
  failed = false, skipped = false, canceled = false,
  waiting = false, running = false, polling = false, retrying = false, lost = false,
  ["false"] = false, f = false, no = false, n = false, off = false, [""] = false }

local function truth(value)
  local known = TRUTH[value:lower()]
  if known ~= nil then return known end
  if decimal(value) or scientific(value) then return compare(value, "0") ~= 0 end
  errors.usage(("'%s' is neither true nor false"):format(value), "compare it with something: ${name} = 'value'")
end

local function like(value, pattern)
  local lua = pattern:gsub("[%%_%p]", function(c)
    if c == "%" then return ".*" end
    return c == "_" and utf8.charpattern or "%" .. c
  end)
  return value:find("^" .. lua .. "$") ~= nil
end

local function matches(value, pattern)
  local ok, found = pcall(string.find, value, pattern)
  if not ok then errors.usage(("'%s' is no Lua pattern"):format(pattern)) end
  return found ~= nil
end

local COMPARE = {
  ["="] = function(n) return n == 0 end, ["!="] = function(n) return n ~= 0 end,
  ["<"] = function(n) return n < 0 end, ["<="] = function(n) return n <= 0 end,
  [">"] = function(n) return n > 0 end, [">="] = function(n) return n >= 0 end,
}

local function value_of_operand(operand, value_of)
  local function value(name)
    local found = value_of(name)
    if found == nil then errors.usage(("'${%s}' has no value"):format(name), "no node before this one gave it") end
    return tostring(found)
  end
  if operand.variable then return value(operand.variable), ("${%s}"):format(operand.variable) end
  if operand.varies then return references.expand(operand.literal, value), ("'%s'"):format(operand.literal) end
  return operand.literal:gsub("%$%${", "${"), operand.bare and operand.literal or ("'%s'"):format(operand.literal)
end

local function shown(value)
  if decimal(value) or scientific(value) then return value end
  return "'" .. (#value > 60 and value:sub(1, (utf8.offset(value, 0, 58) or 58) - 1) .. "..." or value) .. "'"
end

local eval -- (tree, value_of) -> bool, text as written, text with values

local function eval_comparison(tree, value_of)
  local left, written = value_of_operand(tree.left, value_of)
  if tree.op == "truth" then return truth(left), written, shown(left) end
  if tree.op == "in" then
    local found, texts, values = false, {}, {}
    for i, operand in ipairs(tree.list) do
      local value, text = value_of_operand(operand, value_of)
      found = found or compare(left, value) == 0
      texts[i], values[i] = text, shown(value)
    end
    return found, ("%s in (%s)"):format(written, table.concat(texts, ", ")),
      ("%s in (%s)"):format(shown(left), table.concat(values, ", "))
  end
  local right, text = value_of_operand(tree.right, value_of)
  local result
  if tree.op == "like" then result = like(left, right)
  elseif tree.op == "matches" then result = matches(left, right)
  else result = COMPARE[tree.op](compare(left, right)) end
  return result, ("%s %s %s"):format(written, tree.op, text), ("%s %s %s"):format(shown(left), tree.op, shown(right))
end

function eval(tree, value_of)
  if tree.op == "not" then
    local result, written, values = eval(tree[1], value_of)
    return not result, ("not (%s)"):format(written), ("not (%s)"):format(values)
  end
  if tree.op ~= "and" and tree.op ~= "or" then return eval_comparison(tree, value_of) end
  local texts, with_values, result = {}, {}, nil
  for i, part in ipairs(tree) do
    local holds, written, values = eval(part, value_of)
    if part.op == "and" or part.op == "or" then written, values = "(" .. written .. ")", "(" .. values .. ")" end
    texts[i], with_values[i], result = written, values, holds
    if holds == (tree.op == "or") then break end -- the rest cannot change it, and may have no values
  end
  local joint = " " .. tree.op .. " "
  return result, table.concat(texts, joint), table.concat(with_values, joint)
end

--- Whether a condition holds, and why: "${rows} > 0: 0 > 0 is false". Raises a usage error if
--- a variable has no value, or one that stands alone is neither true nor false.
---@param cond tidemill.Condition
---@param value_of fun(name: string): string?
---@param vars? table<string, string>  for a condition that is a function
---@return boolean holds, string explanation
function condition.eval(cond, value_of, vars)
  local reasons = {}
  for _, item in ipairs(cond.items) do
    if item.call then
      local result, reason = item.call(vars or {})
      return not not result, reason and tostring(reason) or ("the function says %s"):format(tostring(not not result))
    end
    local result, written, values = eval(item.tree, value_of)
    reasons[#reasons + 1] = ("%s: %s is %s"):format(written, values, tostring(result))
    if not result then return false, reasons[#reasons] end
  end
  return true, table.concat(reasons, "; ")
end

return condition
