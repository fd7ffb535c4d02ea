--- tidemill.wire: lines come whole and in order, a silent or ended writer is told apart.

local lu = require "luaunit"
local proc = require "proc"

local BIN = assert(os.getenv "TM_BIN")

TestWire = {}

--- A child that runs `script`, with a wire `w` on its descriptor 4.
local function child_of(script)
  local path = assert(os.getenv "TM_TMP") .. "/wire.lua"
  local file <close> = assert(io.open(path, "w"))
  file:write('io.stdout:setvbuf "line" local w = require "tidemill.wire".open(4)\n', script)
  file:close()
  return proc.spawn { cmd = { BIN, "exec", path }, stdout = "pipe", fds = { [4] = "feed" } }
end

local function said(child)
  local text = ""
  while true do
    local more = child:read(1, 60)
    if not more or more == "" then return text end
    text = text .. more
  end
end

local ECHO = [[
  while true do
    local line = w:line()
    if not line then break end
    print(#line, line:sub(1, 8))
  end
  print "end"]]

function TestWire.test_lines_come_in_order_however_they_were_cut()
  local child <close> = child_of(ECHO)
  for _, piece in ipairs { "a", "b\n\nlong", " line\nx", "\ny\nz" } do
    child:write(piece, 5, 4)
    proc.poll({}, 0.02)
  end
  child:close_fd(4)
  lu.assertEquals(said(child), "2\tab\n0\t\n9\tlong lin\n1\tx\n1\ty\nend\n") -- z never ended
end

function TestWire.test_a_line_larger_than_the_pipe_is_whole()
  local child <close> = child_of(ECHO)
  child:write(("x"):rep(1 << 20) .. "\n", 5, 4)
  child:close_fd(4)
  lu.assertEquals(said(child), "1048576\txxxxxxxx\nend\n")
end

function TestWire.test_a_silent_writer_is_a_timeout_and_loses_no_byte()
  local child <close> = child_of [[
    local ok, err = pcall(w.line, w, 0.2)
    print(ok, err.kind)
    print(w:line(10))]]
  child:write("par", 5, 4)
  lu.assertEquals(child:read(1, 60), "false\ttimeout\n")
  child:write("tial\n", 5, 4)
  lu.assertEquals(said(child), "partial\n")
end

function TestWire.test_a_signal_ends_the_wait()
  local child <close> = child_of [[
    local ok, err = require "tidemill.signal".guard(function()
      print "waiting"
      return w:line()
    end)
    print(ok, err.kind)]]
  lu.assertEquals(child:read(1, 60), "waiting\n")
  proc.poll({}, 0.2)
  child:kill "TERM"
  lu.assertEquals(said(child), "false\tcanceled\n")
end

function TestWire.test_a_closed_wire_refuses()
  local child <close> = child_of [[w:close() w:close() print(pcall(w.line, w))]]
  lu.assertStrContains(said(child), "the wire is closed")
end

os.exit(lu.LuaUnit.run())
