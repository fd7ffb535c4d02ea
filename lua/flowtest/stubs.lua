--- Databases and object stores that answer from tables, for a flow author's tests.
---
--- A database is a table of SQL and answers. SQL is compared without regard to white space and
--- a final semicolon; a key that ends in "..." answers whatever begins like it, "..." alone
--- answers anything; the longest such key counts. An answer is
---
---     rows      an array of tables; `columns` in it gives the order of the columns
---     a scalar  one row with that value; a number is also the rows affected
---     an error  as flowtest.error makes it: it is raised
---     a function(sql, ...) that returns one of these
---
--- What a node asks is kept, with transactions, in the order it was asked.

local errors = require "tidemill.errors"
local suggest = require "tidemill.suggest"

local stubs = {}

local NULL = require "json".null

local function squeezed(sql)
  return (sql:gsub("%s+", " "):gsub("^ ", ""):gsub("[ ;]+$", ""))
end

local function find_answer(stub, sql)
  local wanted, best, best_size = squeezed(sql), nil, -1
  for key, answer in pairs(stub.answers) do
    local text = squeezed(key)
    local start = text:match "^(.*)%.%.%.$"
    if text == wanted then return answer, true end
    if start and #start > best_size and wanted:sub(1, #start) == start then best, best_size = answer, #start end
  end
  return best, best_size >= 0
end

local function is_error(value) return errors.is(value) end

-- An answer as Conn:query returns it.
local function result_of(answer)
  if type(answer) ~= "table" then
    if answer == nil then return { columns = {}, command = "OK", affected = 0 } end
    return { { value = answer }, columns = { "value" }, command = "SELECT 1", affected = math.tointeger(answer) or 1 }
  end
  local result, names = table.move(answer, 1, #answer, 1, {}), {}
  for _, row in ipairs(answer) do
    for _, name in ipairs(suggest.keys(row)) do names[name] = true end
  end
  result.columns = answer.columns or suggest.keys(names)
  for i, row in ipairs(result) do
    local whole = {}
    for _, name in ipairs(result.columns) do whole[name] = row[name] == nil and NULL or row[name] end
    result[i] = whole
  end
  result.command = ("SELECT %d"):format(#result)
  result.affected = #result
  return result
end

local function ask(stub, sql, ...)
  table.insert(stub.asked, { connection = stub.name, sql = sql, params = { ... } })
  local answer, found = find_answer(stub, sql)
  if not found and stub.any ~= nil then answer, found = stub.any, true end
  if type(answer) == "function" then answer = answer(sql, ...) end
  if is_error(answer) then error(answer, 0) end
  if found then return result_of(answer) end
  local shown = squeezed(sql)
  errors.usage(("no stub of '%s' answers: %s"):format(stub.name, #shown > 200 and shown:sub(1, 200) .. "..." or shown),
    suggest.hint(shown, suggest.keys(stub.answers), "it answers") or "give its answer to stub()")
end

-- ---- connections ----

local Conn, Tx, Stmt = { __name = "flowtest.Conn" }, {}, {}
Conn.__index, Tx.__index, Stmt.__index = Conn, Tx, Stmt

setmetatable(Conn, { __index = function(_, name)
  if type(name) ~= "string" then return nil end
  return function()
    errors.usage(("a stubbed connection has no '%s'"):format(name), "stubs know query, one, value, rows, exec, "
      .. "prepare and transaction")
  end
end })

function Conn:query(sql, ...) return ask(self.stub, sql, ...) end

function Conn:one(sql, ...)
  local result = ask(self.stub, sql, ...)
  return result[1], result.columns
end

function Conn:value(sql, ...)
  local result = ask(self.stub, sql, ...)
  if not result[1] then return nil end
  return result[1][result.columns[1]]
end

function Conn:rows(sql, ...)
  local result, i = ask(self.stub, sql, ...), 0
  return function()
    i = i + 1
    return result[i]
  end
end

function Conn:exec(sql, opts)
  local done, list = nil, require "tidemill.statements".split(sql) or { { text = sql } }
  local all = {}
  for i, one in ipairs(list) do
    local result = ask(self.stub, one.text)
    done = { command = result.command, rows = result.affected, result = opts and opts.results and result or nil }
    all[i] = done
  end
  for key, value in pairs(done or {}) do all[key] = value end
  return all
end

function Conn:prepare(sql) return setmetatable({ conn = self, sql = sql }, Stmt) end

function Stmt:query(...) return self.conn:query(self.sql, ...) end
function Stmt:one(...) return (self.conn:one(self.sql, ...)) end
function Stmt:value(...) return self.conn:value(self.sql, ...) end
function Stmt:exec(...) return self.conn:query(self.sql, ...).affected end
function Stmt.close() end
Stmt.__close = Stmt.close

local function note(conn, sql)
  table.insert(conn.stub.asked, { connection = conn.stub.name, sql = sql, params = {} })
end

function Conn:transaction()
  note(self, "BEGIN")
  return setmetatable({ of = self, open = true }, Tx)
end

function Tx:commit()
  if self.open then note(self.of, "COMMIT") end
  self.open = false
end

function Tx:rollback()
  if self.open then note(self.of, "ROLLBACK") end
  self.open = false
end
Tx.__close = Tx.rollback

function Tx:conn() return self.of end

function Conn.close() end
Conn.__close = Conn.close
function Conn.state() return "idle" end
function Conn.pid() return 1 end
function Conn.backend_start() return "" end
function Conn.server_version() return 150000, "a stub" end
function Conn.flavor() return "postgresql" end
function Conn.notices() end
function Conn.timeout() end

--- Makes a connection. `asked` takes what it is asked: { connection, sql, params }.
---@param name string
---@param answers table<string, any>|function  a function answers anything
---@param asked table[]
function stubs.postgres(name, answers, asked)
  local stub = { name = name, answers = type(answers) == "table" and answers or {}, asked = asked,
    any = type(answers) == "function" and answers or nil }
  return setmetatable({ stub = stub }, Conn)
end

-- ---- object stores ----

local Store = { __name = "flowtest.Store" }
Store.__index = Store

setmetatable(Store, { __index = function(_, name)
  if type(name) ~= "string" then return nil end
  return function()
    errors.usage(("a stubbed store has no '%s'"):format(name),
      "stubs know put, get, head, list, copy, delete and delete_many")
  end
end })

function Store:put(key, bytes, opts)
  if opts and opts.create_only and self.objects[key] then
    errors.raise("exists", ("object '%s' exists"):format(key))
  end
  self.objects[key] = bytes
  return { key = key, size = #bytes, etag = require "tidemill.sign".sha256(bytes) }
end

function Store:get(key)
  return self.objects[key] or errors.raise("not_found", ("no object '%s' in the stub of '%s'"):format(key,
    self.name))
end

function Store:head(key)
  local bytes = self.objects[key]
  if not bytes then return nil end
  return { key = key, size = #bytes, etag = require "tidemill.sign".sha256(bytes), modified_ms = 0, metadata = {} }
end

function Store:list(opts)
  local prefix, found, i = opts and opts.prefix or "", {}, 0
  for _, key in ipairs(suggest.keys(self.objects)) do
    if key:sub(1, #prefix) == prefix then found[#found + 1] = self:head(key) end
  end
  return function()
    i = i + 1
    return found[i]
  end
end

function Store:copy(from, to) return self:put(to, self:get(from)) end
function Store:delete(key) self.objects[key] = nil end

function Store:delete_many(keys)
  for _, key in ipairs(keys) do self.objects[key] = nil end
end

function Store.close() end
Store.__close = Store.close

--- Makes an object store over a table of keys and bytes, which it changes.
---@param name string
---@param objects table<string, string>
function stubs.store(name, objects)
  return setmetatable({ name = name, objects = objects }, Store)
end

return stubs
