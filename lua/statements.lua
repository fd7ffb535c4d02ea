--- SQL text taken apart into its statements, by the lexical rules of PostgreSQL.
---
--- A semicolon ends a statement unless it stands in quotes ('...', E'...', "...", $tag$...$tag$),
--- in a comment (-- and nested /* */), in parentheses (CREATE RULE ... DO (a; b)) or in a
--- function body BEGIN ATOMIC ... END. Nothing else of the grammar is known, so what the server
--- would not understand is left for it to say. What a server never sees is refused here: the
--- backslash commands of psql, and COPY from and to the client.
---
--- psql reads scripts by the same rules (psqlscan.l); where it takes any BEGIN in a CREATE
--- FUNCTION for a body, this wants BEGIN ATOMIC, so a function may be called "begin".

local statements = {}

---@class statements.Statement
---@field text string     as written, comments within and before it included, without the semicolon
---@field line integer    of its first word, 1 is the first line of the whole text
---@field word string     its first word in capitals: "INSERT"; "" when it starts otherwise
---@field control boolean begins or ends a transaction: BEGIN, COMMIT, ROLLBACK ..., not savepoints

---@class statements.Fault
---@field message string
---@field hint? string
---@field line integer

local WORD = "^[%a_\x80-\xff][%w_$\x80-\xff]*"
local INTERESTING = "[%w_\x80-\xff\"'$%-/\\;()]"
local HEAD = 8 -- words at the start of a statement that are kept to tell what it is

local META = {
  ["\\copy"] = "move rows with flow.extract and flow.load",
  ["\\i"] = "put the file's text into the flow", ["\\ir"] = "put the file's text into the flow",
  ["\\set"] = "use vars and constants of the flow",
  ["\\gset"] = "use a flow.assign node", ["\\c"] = "use another node with its own 'on'",
}

local Scan = {}
Scan.__index = Scan

local function raise(self, at, message, hint)
  local _, lines = self.text:sub(1, at - 1):gsub("\n", "")
  error({ message = message, hint = hint, line = lines + 1 }, 0)
end

-- Behind the quoted text whose quote stands at `at`.
local function behind_quoted(self, at, escapes)
  local text, quote = self.text, self.text:sub(at, at)
  local stops = escapes and "[\\" .. quote .. "]" or quote
  local from = at + 1
  while true do
    local stop = text:find(stops, from)
    if not stop then
      raise(self, at, quote == "'" and "unterminated quoted text" or "unterminated quoted name")
    elseif text:sub(stop, stop) == "\\" then
      from = stop + 2
    elseif text:sub(stop + 1, stop + 1) == quote then
      from = stop + 2
    else
      return stop + 1
    end
  end
end

-- Where an E'...' goes on: behind it only space with a line end in it, and line comments
-- behind that, then a quote; such a piece has escapes too.
local function continues(text, at)
  local space = text:match("^%s*()", at)
  if not text:sub(at, space - 1):find "[\r\n]" then return nil end
  while text:find("^%-%-", space) do
    space = text:match("^[^\r\n]*%s*()", space)
  end
  return text:sub(space, space) == "'" and space or nil
end

local function behind_escaped(self, at)
  local next_piece = at
  while next_piece do
    at = behind_quoted(self, next_piece, true)
    next_piece = continues(self.text, at)
  end
  return at
end

local function behind_comment(self, at)
  local depth, from = 1, at + 2
  while depth > 0 do
    local stop, found = self.text:match("()([/*][*/])", from)
    if not stop then raise(self, at, "unterminated comment") end
    if found == "/*" or found == "*/" then
      depth, from = depth + (found == "/*" and 1 or -1), stop + 2
    else
      from = stop + 1
    end
  end
  return from
end

-- Behind $tag$...$tag$, or behind a parameter $1, or behind a lone dollar.
local function behind_dollar(self, at)
  local tag = self.text:match("^%$[%a_\x80-\xff][%w_\x80-\xff]*%$", at) or self.text:match("^%$%$", at)
  if not tag then return self.text:match("^%$%d*()", at) end
  local _, stop = self.text:find(tag, at + #tag, true)
  if not stop then raise(self, at, ("unterminated text behind %s"):format(tag)) end
  return stop + 1
end

-- A token at `at` belongs to the statement under way.
local function token(self, at)
  if not self.first then self.first, self.words, self.previous, self.body = at, {}, "", 0 end
end

local function transaction_control(words)
  local first, second = words[1], words[2]
  if first == "PREPARE" then return second == "TRANSACTION" end
  if first == "ROLLBACK" then
    return not (second == "TO" or (second == "WORK" or second == "TRANSACTION") and words[3] == "TO")
  end
  return first == "BEGIN" or first == "START" and second == "TRANSACTION" or first == "COMMIT" or first == "END"
    or first == "ABORT"
end

local function word(self, at, stop)
  local text = self.text
  local next_byte = text:sub(stop, stop)
  if next_byte == "'" and stop == at + 1 and text:find("^[eE]", at) then return behind_escaped(self, stop) end
  local upper = text:sub(at, stop - 1):upper()
  local words = self.words
  if #words < HEAD then words[#words + 1] = upper end
  if upper == "ATOMIC" and self.previous == "BEGIN" and words[1] == "CREATE" then
    self.body = math.max(self.body, 1)
  elseif self.body > 0 and upper == "CASE" then
    self.body = self.body + 1
  elseif self.body > 0 and upper == "END" then
    self.body = self.body - 1
  elseif words[1] == "COPY" and self.depth == 0 and (upper == "STDIN" and self.previous == "FROM"
    or upper == "STDOUT" and self.previous == "TO") then
    raise(self, self.first, ("COPY %s %s has no client that would %s the rows"):format(self.previous, upper,
      upper == "STDIN" and "send" or "take"),
      upper == "STDIN" and "load rows with flow.load" or "read rows with flow.extract")
  end
  self.previous = upper
  return stop
end

-- Not by a pattern: "%s*$" takes a time quadratic in a long run of blanks.
local function trimmed(text)
  local from, to = text:match "^%s*()", #text
  while to >= from and text:find("^%s", to) do to = to - 1 end
  return text:sub(from, to)
end

local function finish(self, stop)
  if self.first then
    local from = self.from
    self.lines = self.lines + select(2, self.text:sub(self.counted, self.first - 1):gsub("\n", ""))
    self.counted = self.first
    self.found[#self.found + 1] = {
      text = trimmed(self.text:sub(from, stop - 1)), line = self.lines, word = self.words[1] or "",
      control = transaction_control(self.words) or false,
    }
  end
  self.first, self.from, self.depth = nil, stop + 1, 0
end

-- One step from the interesting byte at `at`; returns where to go on.
local function step(self, at)
  local text = self.text
  local byte = text:sub(at, at)
  if byte == ";" then
    if self.depth == 0 and (self.body or 0) == 0 or not self.first then finish(self, at) end
    return at + 1
  elseif text:find("^%-%-", at) then
    return text:find("[\r\n]", at) or #text + 1
  elseif text:find("^/%*", at) then
    return behind_comment(self, at)
  elseif byte == "\\" then
    local command = text:match("^\\[%w_]+", at) or text:match("^\\.?", at)
    raise(self, at, ("'%s' is a command of psql, not SQL"):format(command),
      META[command] or "only what the server understands can stand here")
  end
  token(self, at)
  if byte == "'" then
    self.previous = ""
    return self.escapes and behind_escaped(self, at) or behind_quoted(self, at, false)
  elseif byte == '"' then
    self.previous = ""
    return behind_quoted(self, at, false)
  elseif byte == "$" then
    self.previous = ""
    return behind_dollar(self, at)
  elseif byte == "(" then
    self.depth = self.depth + 1
  elseif byte == ")" then
    self.depth = math.max(self.depth - 1, 0)
  elseif byte:find "%d" then
    return text:match("^[%w_.]+()", at)
  else
    local _, last = text:find(WORD, at)
    if last then return word(self, at, last + 1) end
  end
  return at + 1
end

local function scan(text, escapes)
  local self = setmetatable({ text = text, escapes = escapes, found = {}, from = 1, depth = 0, lines = 1,
    counted = 1 }, Scan)
  local at = text:find "%S"
  while at do
    local next_at = text:find(INTERESTING, at)
    if not self.first then -- other bytes are tokens too: "*" or "="
      local other = text:find("%S", at)
      if other and other < (next_at or #text + 1) then token(self, other) end
    end
    at = next_at and step(self, next_at)
  end
  finish(self, #text + 1)
  return self.found
end

--- Takes a text apart. What is empty, or comment alone, is no statement.
---
--- nil and the fault when a quote or comment does not end, or when it holds what only psql
--- understands.
---@param text string
---@param opts? {escapes: boolean?}  escapes: a backslash escapes in '...' too, as under
---standard_conforming_strings = off (default false)
---@return statements.Statement[]?, statements.Fault?
function statements.split(text, opts)
  local ok, result = pcall(scan, text, opts and opts.escapes or false)
  if ok then return result end
  if type(result) == "table" and result.line then return nil, result end
  error(result, 0)
end

return statements
