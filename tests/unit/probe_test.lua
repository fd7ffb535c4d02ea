local errors = require "tidemill.errors"
local lu = require "luaunit"
local probe = require "tidemill.probe"

TestProbe = {}

-- A connection that counts the transactions which were opened and are not closed.
local function connection(state)
  local conn = { open = 0 }
  function conn.state() return state or "transaction" end
  function conn:transaction()
    self.open = self.open + 1
    return setmetatable({}, { __close = function() self.open = self.open - 1 end })
  end
  return conn
end

local function refuse(kind)
  return function() errors.raise(kind, "no") end
end

function TestProbe:test_what_the_server_says_is_the_answer()
  local conn = connection()
  local ok, answer = probe(conn, function(asked, what) return asked.open .. what end, " open")
  lu.assertEquals({ ok, answer }, { true, "1 open" })
  lu.assertEquals(conn.open, 0)
end

function TestProbe:test_a_refusal_is_an_answer()
  local conn = connection()
  local ok, err = probe(conn, refuse "sql")
  lu.assertFalse(ok)
  lu.assertEquals(err.message, "no")
  lu.assertEquals(conn.open, 0)
end

function TestProbe:test_neither_a_lost_connection_is_nor_what_passes_by_itself()
  for kind, state in pairs { connect = "broken", canceled = "failed", timeout = "failed", server = "failed" } do
    local conn = connection(state)
    local ok, err = pcall(probe, conn, refuse(kind))
    lu.assertFalse(ok)
    lu.assertEquals(err.kind, kind)
    lu.assertEquals(conn.open, 0)
  end
end

os.exit(lu.LuaUnit.run())
