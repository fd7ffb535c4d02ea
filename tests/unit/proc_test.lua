--- proc: spawning, descriptors, ends, signals, limits, poll over many children.

local lu = require "luaunit"
local proc = require "proc"

--- Whether a process runs; one that waits to be reaped by init does not.
local function runs(pid)
  local stat = io.open("/proc/" .. pid .. "/stat")
  local state = stat and stat:read("a"):match "%) (%a)"
  if stat then stat:close() end
  return state ~= nil and state ~= "Z"
end

local function dies(pid)
  for _ = 1, 1000 do -- not the 30 s that they sleep
    if not runs(pid) then return true end
    proc.poll({}, 0.02)
  end
  return false
end

TestProc = {}

local function raised(fn, ...)
  local ok, err = pcall(fn, ...)
  lu.assertFalse(ok)
  return err
end

function TestProc.test_run_gives_both_outputs_and_the_code()
  local r = proc.run { cmd = "echo out; echo err >&2; exit 7" }
  lu.assertEquals({ r.stdout, r.stderr, r.code, r.signal }, { "out\n", "err\n", 7 })
  lu.assertTrue(r.maxrss_bytes > 100000)
  lu.assertTrue(r.utime >= 0 and r.stime >= 0)
end

function TestProc.test_words_are_passed_as_they_are()
  local r = proc.run { cmd = { "printf", "[%s]", "a b", "", "$HOME", "'\"\n" } }
  lu.assertEquals(r.stdout, "[a b][][$HOME]['\"\n]")
end

function TestProc.test_input_larger_than_a_pipe_arrives()
  local input = ("0123456789abcdef"):rep(1 << 16)
  local r = proc.run { cmd = { "cat" }, input = input }
  lu.assertEquals(#r.stdout, #input)
  lu.assertTrue(r.stdout == input)
  lu.assertEquals(proc.run { cmd = { "cat" } }.stdout, "")
end

function TestProc.test_env_is_added_and_taken_away()
  local r = proc.run { cmd = 'echo "$A-${PATH:+path}-${HOME-none}"', env = { A = "x=y", HOME = false } }
  lu.assertEquals(r.stdout, "x=y-path-none\n")
end

function TestProc.test_cwd_is_where_the_child_starts()
  lu.assertEquals(proc.run { cmd = { "pwd" }, cwd = "/usr" }.stdout, "/usr\n")
  local err = raised(proc.run, { cmd = { "pwd" }, cwd = "/no/such" })
  lu.assertEquals(err.kind, "not_found")
  lu.assertStrContains(err.message, "cannot enter directory '/no/such'")
end

function TestProc.test_a_missing_program_is_told_apart_from_one_that_fails()
  local err = raised(proc.spawn, { cmd = { "no-such-program-here" } })
  lu.assertEquals({ err.kind, err.message },
    { "not_found", "cannot run 'no-such-program-here': No such file or directory" })
  lu.assertEquals(proc.run { cmd = "exit 127" }.code, 127)
  lu.assertEquals(raised(proc.spawn, { cmd = { "/etc/passwd" } }).kind, "system")
end

function TestProc.test_wrong_options_raise()
  for _, options in ipairs { {}, { cmd = {} }, { cmd = { 1 } }, { cmd = "a\0b" },
    { cmd = "x", stdout = "file" },
    { cmd = "x", fds = { [2] = "pipe" } }, { cmd = "x", fds = { [99] = "pipe" } },
    { cmd = "x", env = { A = 1 } },
    { cmd = "x", input = 1 }, { cmd = "x", death_signal = "NOPE" } } do
    raised(proc.spawn, options)
  end
end

function TestProc.test_only_the_given_descriptors_are_open()
  local f = assert(io.open("/dev/null"))
  local r = proc.run { cmd = "exec ls /proc/self/fd" }
  f:close()
  lu.assertEquals(r.stdout, "0\n1\n2\n3\n") -- 3 is ls reading the directory
end

function TestProc.test_descriptor_three_is_a_pipe_of_its_own()
  local child <close> = proc.spawn { cmd = "echo three >&3; echo one",
    fds = { [3] = "pipe" }, stdout = "pipe" }
  lu.assertEquals(child:read(3, 5), "three\n")
  lu.assertEquals(child:read(1, 60), "one\n")
  lu.assertNil(child:read(3, 5))
  lu.assertEquals(child:wait(60).code, 0)
  lu.assertEquals(child:wait(0).code, 0)
end

function TestProc.test_a_descriptor_can_be_fed()
  local child <close> = proc.spawn { cmd = "read line <&4; echo got $line", stdout = "pipe",
    fds = { [4] = "feed" } }
  child:write("more\n", 5, 4)
  lu.assertEquals(child:read(1, 60), "got more\n")
end

function TestProc.test_read_times_out_with_no_bytes()
  local child <close> = proc.spawn { cmd = { "sleep", "30" }, stdout = "pipe" }
  lu.assertEquals(child:read(1, 0.02), "")
  lu.assertNil(child:wait(0.02))
end

function TestProc.test_write_and_close_stdin()
  local child <close> = proc.spawn { cmd = { "cat" }, stdin = "pipe", stdout = "pipe" }
  child:write("ping")
  lu.assertEquals(child:read(1, 60), "ping")
  child:close_stdin()
  lu.assertNil(child:read(1, 60))
  lu.assertEquals(raised(child.write, child, "x").kind, "usage")
end

function TestProc.test_writing_to_a_child_that_ended_is_an_io_error()
  local child <close> = proc.spawn { cmd = { "true" }, stdin = "pipe" }
  child:wait(60)
  lu.assertEquals(raised(child.write, child, "x").kind, "io")
end

function TestProc.test_a_signal_that_ends_a_child_has_a_name()
  local child <close> = proc.spawn { cmd = { "sleep", "30" } }
  child:kill "KILL"
  local status = child:wait(60)
  lu.assertEquals({ status.signal, status.code }, { "SIGKILL" })
  child:kill() -- nothing happens
end

function TestProc.test_kill_reaches_the_whole_group()
  local child <close> = proc.spawn { cmd = "sleep 30 & echo $!; wait", stdout = "pipe" }
  local grandchild = child:read(1, 60):match "%d+"
  child:kill "TERM"
  lu.assertEquals(child:wait(60).signal, "SIGTERM")
  lu.assertNil(child:read(1, 60)) -- end of file: nobody holds the pipe any more
  lu.assertTrue(dies(grandchild))
end

function TestProc.test_what_a_child_leaves_in_its_group_is_killed_with_it()
  local r = proc.run { cmd = "sleep 30 >/dev/null 2>&1 & echo $!; exit 3" }
  lu.assertEquals(r.code, 3)
  lu.assertTrue(dies(r.stdout:match "%d+"))
end

function TestProc.test_closing_a_handle_ends_the_child()
  local pid
  do
    local child <close> = proc.spawn { cmd = { "sleep", "30" } }
    pid = child:pid()
    lu.assertTrue(runs(pid))
  end
  lu.assertFalse(runs(pid))
end

function TestProc.test_a_closed_handle_says_so()
  local child = proc.spawn { cmd = { "true" } }
  child:close()
  child:close()
  lu.assertStrContains(tostring(raised(child.pid, child)), "the process is closed")
end

function TestProc.test_a_timeout_kills_and_raises()
  local err = raised(proc.run, { cmd = { "sleep", "30" }, timeout = 0.05 })
  lu.assertEquals(err.kind, "timeout")
end

function TestProc.test_too_much_output_raises()
  local err = raised(proc.run, { cmd = { "yes" }, max_output = 100000 })
  lu.assertEquals(err.kind, "data")
  lu.assertStrContains(err.message, "more than 100000 bytes")
end

function TestProc.test_check_raises_with_what_it_said()
  local err = raised(proc.run, { cmd = { "ls", "/no/such" }, check = true })
  lu.assertStrContains(err.message, "'ls' failed with exit code 2")
  lu.assertStrContains(err.detail, "/no/such")
  lu.assertStrContains(raised(proc.run, { cmd = "kill -9 $$", check = true }).message, "ended by SIGKILL")
end

function TestProc.test_children_die_with_their_parent()
  -- the middle one is a tidemill that spawns a sleep, tells its pid and is killed
  local script = os.tmpname()
  local f = assert(io.open(script, "w"))
  f:write [[local c = require "proc".spawn { cmd = { "sleep", "77" } }
            print(c:pid()) io.stdout:flush() c:wait()]]
  f:close()
  local middle <close> = proc.spawn { cmd = { "/proc/self/exe", "exec", script }, stdout = "pipe",
    cwd = "/", env = { LUA_PATH = package.path } }
  local pid = middle:read(1, 60):match "%d+"
  lu.assertTrue(runs(pid))
  middle:kill "KILL"
  middle:wait(60)
  os.remove(script)
  lu.assertTrue(dies(pid))
end

function TestProc.test_poll_watches_many_children()
  local handles, lines, ended = {}, {}, 0
  for i = 1, 20 do
    handles[i] = proc.spawn { cmd = ("echo %d; exit %d"):format(i, i), stdout = "pipe" }
  end
  local rounds, open = 0, 20
  while ended < 20 or open > 0 do
    rounds = rounds + 1
    lu.assertTrue(rounds < 1000)
    for _, event in ipairs(proc.poll(handles, 5)) do
      local text = event.fd and event.handle:read(event.fd, 0)
      if text then
        lines[#lines + 1] = tonumber(text)
      elseif event.fd then
        event.handle:close_fd(event.fd)
        open = open - 1
      else
        local status = event.handle:wait(0)
        lu.assertTrue(status.code >= 1 and status.code <= 20)
        ended = ended + 1
      end
    end
  end
  for _, handle in ipairs(handles) do handle:close() end
  table.sort(lines)
  lu.assertEquals(#lines, 20)
  lu.assertEquals(lines[20], 20)
end

function TestProc.test_poll_of_nothing_waits_out_its_time()
  lu.assertEquals(proc.poll({}, 0.01), {})
end

function TestProc.test_no_descriptor_is_left_behind()
  local function count() -- once this process has closed the child's ends of its pipes
    local child <close> = proc.spawn { cmd = "read go; ls /proc/$PPID/fd | wc -l", stdin = "pipe", stdout = "pipe" }
    child:write "go\n"
    return tonumber(child:read(1, 60))
  end
  local before = count()
  for _ = 1, 50 do proc.run { cmd = "exit 0", input = "x" } end
  pcall(proc.spawn, { cmd = { "no-such-program-here" }, stdout = "pipe", stdin = "pipe" })
  lu.assertEquals(count(), before)
end

-- Starts children while its group is signalled; says how many ended as they should, and how
-- many signals it took.
local STARTER = [[
  local proc, signal = require "proc", require "tidemill.signal"
  signal.defer(true)
  io.stdout:write "ready\n"
  io.stdout:flush()
  local children, good = {}, 0
  for i = 1, 300 do children[i] = proc.spawn { cmd = { "/bin/sh", "-c", "exit 7" } } end
  local taken = signal.take()
  for _, child in ipairs(children) do
    local ok, status
    repeat
      ok, status = pcall(child.wait, child, 10)
      signal.take()
    until ok
    if status.code == 7 then good = good + 1 end
  end
  print(good, taken)
  os.exit(true)
]]

function TestProc.test_a_signal_to_the_group_is_not_for_children_that_leave_it()
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(STARTER)
  file:close()
  local starter <close> = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", path }, stdout = "pipe" }
  lu.assertEquals(starter:read(1, 60), "ready\n")
  local sent, text = 0, ""
  repeat
    starter:kill "HUP"
    sent = sent + 1
    local more = starter:read(1, 0.0005)
    text = text .. (more or "")
  until not more or text:find "\n"
  os.remove(path)
  local good, taken = text:match "^(%d+)%s+(%d+)"
  lu.assertEquals(tonumber(good), 300, text)
  lu.assertTrue(tonumber(taken) <= sent, ("%s signals of %d"):format(taken, sent))
end

os.exit(lu.LuaUnit.run())
