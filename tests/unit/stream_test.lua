-- stream.start, stream.chain, stream.wait, stream.throttle: streams beside the script.
local lu = require "luaunit"
local oss = require "oss"
local proc = require "proc"
local signal = require "tidemill.signal"
local stream = require "stream"
local zip = require "zip"

local function kind_of(fn, ...)
  local ok, raised = pcall(fn, ...)
  lu.assertFalse(ok)
  return type(raised) == "table" and raised.kind or raised, tostring(raised)
end

-- A job that goes on until its chain is told what to do.
local function open_job(...)
  local chain, sink = stream.chain(), stream.collect()
  return stream.start(chain:source(), ..., sink), chain, sink
end

local function plain_job(opts)
  local chain, sink = stream.chain(), stream.collect()
  return stream.start(chain:source(), sink, opts), chain, sink
end

TestJob = {}

function TestJob.test_a_job_moves_everything_and_gives_its_streams_back()
  local source, sink = stream.bytes("1\n2\n", 2), stream.collect()
  local job <close> = stream.start(source, stream.throttle { rate = 1e6 }, sink)
  local stats = job:join()
  lu.assertEquals({ stats.rows_in, stats.bytes_in, stats.rows_out, stats.bytes_out }, { 2, 4, 2, 4 })
  lu.assertEquals(stream.collected(sink), "1\n2\n")
  lu.assertIsNil(source:read()) -- at its end, but open
end

function TestJob.test_join_can_be_repeated_and_stats_stay()
  local job <close> = stream.start(stream.bytes("x"), stream.discard())
  lu.assertEquals(job:join(), job:join())
  lu.assertEquals(job:stats().bytes_out, 1)
  lu.assertTrue(job:done())
  job:cancel() -- too late: nothing happens
  lu.assertEquals(job:join().bytes_out, 1)
end

function TestJob.test_a_job_that_runs_is_not_done_and_tells_its_figures()
  local job <close>, chain = plain_job { interval = 1, queue = 2 }
  lu.assertFalse(job:done())
  chain:give(stream.bytes("123", 1))
  local deadline = signal.mono() + 10000
  while job:stats().bytes_out == 0 and signal.mono() < deadline do stream.wait({}, 0.01) end
  lu.assertEquals(job:stats(), { rows_in = 1, bytes_in = 3, rows_out = 1, bytes_out = 3 })
  lu.assertFalse(job:done())
  chain:finish()
  job:join()
end

function TestJob.test_what_a_job_has_cannot_be_used()
  local job <close>, chain, sink = plain_job()
  lu.assertStrContains(select(2, kind_of(sink.write, sink, "x")), "a job has the stream")
  lu.assertStrContains(select(2, kind_of(stream.collected, sink)), "a job has the stream")
  lu.assertStrContains(select(2, kind_of(stream.start, stream.bytes "x", sink)), "a job has the stream")
  sink:close() -- does nothing
  chain:give(stream.bytes "abc")
  chain:finish()
  job:join()
  lu.assertEquals(stream.collected(sink), "abc")
end

function TestJob.test_closing_a_job_cancels_it_and_closes_its_streams()
  local job, _, sink = plain_job()
  job:close()
  job:close()
  lu.assertIsNil(job.fd)
  lu.assertStrContains(select(2, kind_of(stream.collected, sink)), "the stream is closed")
  lu.assertStrContains(select(2, kind_of(job.join, job)), "the job is closed")
end

function TestJob.test_streams_closed_after_the_join_leave_the_job_whole()
  local sink = stream.collect()
  local job = stream.start(stream.bytes "x", sink)
  job:join()
  sink:close()
  lu.assertEquals(job:join().bytes_out, 1)
  job:close()
end

function TestJob.test_a_cancelled_job_raises_canceled()
  local job <close>, _, sink = plain_job()
  job:cancel()
  lu.assertEquals(kind_of(job.join, job), "canceled")
  lu.assertEquals(kind_of(job.join, job), "canceled")
  lu.assertEquals(stream.collected(sink), "")
end

function TestJob.test_an_error_of_a_stage_is_raised_by_join()
  local job <close> = stream.start(stream.bytes "this is no gzip", zip.gunzip(), stream.discard())
  lu.assertEquals(stream.wait({ job }, 10), { job })
  lu.assertEquals(kind_of(job.join, job), "data")
end

function TestJob.test_a_map_is_refused()
  local map = stream.map(function(row) return row end, { columns = { "a" } })
  local _, message = kind_of(stream.start, stream.bytes "1\n", map, stream.discard())
  lu.assertStrContains(message, "only in stream.pump")
end

function TestJob.test_wrong_arguments_are_refused_and_lend_nothing()
  local source, stage, sink = stream.bytes "x", zip.gzip(), stream.discard()
  lu.assertStrContains(select(2, kind_of(stream.start, source)), "a sink is missing")
  lu.assertStrContains(select(2, kind_of(stream.start, source, stage, stage, sink)), "twice")
  lu.assertStrContains(select(2, kind_of(stream.start, source, sink, { progress = print })), "no option 'progress'")
  lu.assertStrContains(select(2, kind_of(stream.start, source, sink, { queue = 0 })), "queue")
  lu.assertStrContains(select(2, kind_of(stream.start, sink, source)), "source expected")
  local job <close> = stream.start(source, stage, sink)
  job:join()
end

function TestJob.test_jobs_that_nobody_holds_are_collected_with_their_streams()
  for _ = 1, 50 do
    local job = plain_job()
    job:stats()
  end
  for _ = 1, 50 do stream.start(stream.bytes "x", stream.discard()) end
  collectgarbage()
  collectgarbage()
end

TestChain = {}

function TestChain.test_many_sources_are_one_stream()
  local job <close>, chain, sink = plain_job()
  local want = {}
  for i = 1, 200 do
    lu.assertEquals(stream.wait({ job, chain }, 10), { chain })
    lu.assertTrue(chain:hungry())
    lu.assertEquals(chain:stats().sources, i - 1)
    lu.assertTrue(chain:give(stream.bytes(i .. "\n", 1)))
    want[i] = i .. "\n"
  end
  stream.wait({ chain }, 10)
  lu.assertEquals(chain:stats(), { sources = 200, rows = 200, bytes = #table.concat(want) })
  chain:finish()
  lu.assertFalse(chain:hungry())
  lu.assertEquals(stream.wait({ job, chain }, 10), { job })
  lu.assertEquals(job:join().rows_out, 200)
  lu.assertEquals(stream.collected(sink), table.concat(want))
end

function TestChain.test_sources_may_be_given_ahead()
  local chain <close>, sink = stream.chain(), stream.collect()
  for i = 1, 9 do chain:give(stream.bytes(tostring(i))) end
  chain:finish()
  local job <close> = stream.start(chain:source(), sink)
  job:join()
  lu.assertEquals(stream.collected(sink), "123456789")
end

function TestChain.test_a_source_given_is_the_chains()
  local job <close>, chain = plain_job()
  local source = stream.bytes "x"
  chain:give(source)
  lu.assertStrContains(select(2, kind_of(source.read, source)), "the stream is closed")
  chain:finish()
  lu.assertStrContains(select(2, kind_of(chain.give, chain, stream.bytes "y")), "finished")
  lu.assertStrContains(select(2, kind_of(chain.source, chain)), "already")
  job:join()
end

function TestChain.test_a_chain_that_failed_takes_nothing_and_join_says_why()
  local job <close>, chain = open_job(zip.gunzip())
  chain:give(stream.bytes "this is no gzip")
  chain:give(stream.bytes(("x"):rep(100000)))
  lu.assertEquals(stream.wait({ job }, 10), { job })
  lu.assertFalse(chain:give(stream.bytes "late"))
  lu.assertFalse(chain:hungry())
  lu.assertEquals(kind_of(job.join, job), "data")
end

function TestChain.test_an_error_of_a_source_given_is_raised_by_join()
  local store <close> = oss.open("file://" .. os.getenv "TM_BUILD" .. "/tmp")
  local job <close>, chain = plain_job()
  chain:give(stream.bytes "1\n")
  chain:give(store:reader "no such object")
  chain:finish()
  lu.assertEquals(kind_of(job.join, job), "not_found")
end

function TestChain.test_a_chain_closed_before_the_end_fails_its_job()
  local job <close>, chain = plain_job()
  chain:give(stream.bytes "1\n")
  chain:close()
  chain:close()
  lu.assertIsNil(chain.fd)
  lu.assertEquals(kind_of(job.join, job), "canceled")
end

function TestChain.test_a_chain_does_not_take_itself()
  local chain <close> = stream.chain()
  local source <close> = chain:source()
  lu.assertStrContains(select(2, kind_of(chain.give, chain, source)), "own")
end

TestWait = {}

function TestWait.test_the_ready_ones_come_in_their_order()
  local done <close> = stream.start(stream.bytes "x", stream.discard())
  local waits <close>, chain = plain_job()
  done:join()
  lu.assertEquals(stream.wait { waits, chain, done }, { chain, done })
end

function TestWait.test_nothing_is_ready_when_the_time_is_over()
  local job <close>, chain = plain_job()
  chain:give(stream.bytes "x")
  chain:finish()
  job:join()
  local other <close>, hungry = plain_job()
  hungry:finish()
  other:join()
  local begun = signal.mono()
  lu.assertEquals(stream.wait({ chain }, 0.02), {})
  lu.assertTrue(signal.mono() - begun >= 19)
end

function TestWait.test_a_descriptor_is_waited_for_too()
  local job <close> = stream.start(stream.bytes "x", stream.discard())
  local busy <close> = plain_job()
  lu.assertEquals(stream.wait({ busy, job.fd }, 10), { job.fd })
end

function TestWait.test_wrong_lists_are_refused()
  local job = plain_job()
  job:close()
  lu.assertStrContains(select(2, kind_of(stream.wait, { job })), "closed")
  lu.assertStrContains(select(2, kind_of(stream.wait, { "x" })), "list of jobs")
  lu.assertStrContains(select(2, kind_of(stream.wait, { -1 })), "descriptor")
  lu.assertStrContains(select(2, kind_of(stream.wait, {}, -1)), "seconds")
end

local WAITER = [[
local stream = require "stream"
local chain, sink = stream.chain(), stream.collect()
local job = stream.start(chain:source(), sink)
io.stdout:write "ready\n"
io.stdout:flush()
%s
]]

-- How a script ends that is interrupted while it waits.
local function interrupted(call)
  local path = ("%s/tmp/waiter-%d.lua"):format(os.getenv "TM_BUILD", signal.mono())
  local file = assert(io.open(path, "w"))
  file:write(WAITER:format(call))
  file:close()
  local child <close> = proc.spawn {
    cmd = { os.getenv "TM_BIN", "exec", path }, stdout = "pipe", stderr = "null" }
  local said = ""
  while not said:find "ready" do said = said .. assert(child:read(1, 60)) end
  stream.wait({}, 0.02) -- so that it mostly waits; it must end either way
  child:kill "INT"
  local status = child:wait(60)
  os.remove(path)
  return status and status.code
end

function TestWait.test_a_signal_ends_wait()
  lu.assertEquals(interrupted "stream.wait { job }", 130)
end

function TestWait.test_a_signal_ends_join()
  lu.assertEquals(interrupted "job:join()", 130)
end

TestThrottle = {}

local function seconds_until(begun, jobs)
  for _, job in ipairs(jobs) do job:join() end
  return (signal.mono() - begun) / 1000
end

function TestThrottle.test_a_stream_keeps_its_pace()
  local begun = signal.mono()
  local chain = stream.chain()
  for _ = 1, 50 do chain:give(stream.bytes(("x"):rep(1000))) end
  chain:finish()
  local job <close> = stream.start(chain:source(), stream.throttle { rate = 250000, burst = 1 }, stream.discard())
  lu.assertTrue(seconds_until(begun, { job }) >= 0.19)
end

function TestThrottle.test_streams_share_a_pace()
  local begun, pace, jobs = signal.mono(), stream.rate(400000, 1), {}
  for i = 1, 2 do
    local chain = stream.chain()
    for _ = 1, 40 do chain:give(stream.bytes(("x"):rep(1000))) end
    chain:finish()
    jobs[i] = stream.start(chain:source(), stream.throttle { rate = pace }, stream.discard())
  end
  collectgarbage() -- the stages keep the pace
  lu.assertTrue(seconds_until(begun, jobs) >= 0.19)
end

function TestThrottle.test_it_works_in_a_pump()
  local sink <close> = stream.collect()
  stream.pump(stream.bytes "abc", stream.throttle { rate = 1000 }, sink)
  lu.assertEquals(stream.collected(sink), "abc")
end

function TestThrottle.test_wrong_options_are_refused()
  lu.assertStrContains(select(2, kind_of(stream.throttle, { rate = 0 })), "rate")
  lu.assertStrContains(select(2, kind_of(stream.throttle, { rate = "fast" })), "a rate")
  lu.assertStrContains(select(2, kind_of(stream.throttle, {})), "a rate")
  lu.assertStrContains(select(2, kind_of(stream.throttle, { rate = 1, speed = 2 })), "no option 'speed'")
  lu.assertStrContains(select(2, kind_of(stream.throttle, { rate = stream.rate(1), burst = 2 })), "burst")
  lu.assertEquals(kind_of(stream.rate, 1e15), "usage")
end

TestObjects = {}

function TestObjects:setUp()
  self.dir = ("%s/tmp/stream-%d"):format(os.getenv "TM_BUILD", signal.mono())
  assert(os.execute("mkdir -p " .. self.dir))
end

function TestObjects:tearDown() os.execute("rm -rf " .. self.dir) end

function TestObjects:test_the_first_ones_may_be_smaller()
  local store <close> = oss.open("file://" .. self.dir)
  for preamble, sizes in pairs { [""] = { 5, 5, 10, 20, 40, 40, 30 }, ["head\n"] = { 10, 10, 20, 40, 40, 40, 25 } } do
    local chain <close> = stream.chain()
    local sink <close> = store:objects { prefix = "f" .. #preamble, object_bytes = 40, first_bytes = 5,
      preamble = preamble }
    local job <close> = stream.start(chain:source(), sink)
    for _ = 1, 30 do chain:give(stream.bytes("12345", 1)) end
    chain:finish()
    job:join()
    local got = {}
    for i, object in ipairs(sink:objects()) do got[i] = object.bytes end
    lu.assertEquals(got, sizes)
  end
end

function TestObjects:test_completed_objects_are_told_while_a_job_writes()
  local store <close> = oss.open("file://" .. self.dir)
  local chain <close> = stream.chain()
  local sink <close> = store:objects { prefix = "a-", object_bytes = 10 }
  local job <close> = stream.start(chain:source(), sink)
  for i = 1, 4 do chain:give(stream.bytes(tostring(i):rep(10), 1)) end
  local deadline, seen = signal.mono() + 10000, {}
  while #seen < 3 and signal.mono() < deadline do
    lu.assertEquals(stream.wait({ sink:fd() }, 10), { sink:fd() })
    for _, object in ipairs(sink:objects(#seen)) do seen[#seen + 1] = object.key end
  end
  lu.assertEquals(seen, { "a-00001", "a-00002", "a-00003" })
  lu.assertEquals(stream.wait({ sink:fd() }, 0.01), {})
  lu.assertFalse(job:done())
  chain:finish()
  job:join()
  lu.assertEquals(stream.wait({ sink:fd() }, 10), { sink:fd() })
  lu.assertEquals(#sink:objects(), 4)
  lu.assertEquals(sink:objects(3)[1].key, "a-00004")
end

os.exit(lu.LuaUnit.run())
