-- needs: pg pg2
--- Jobs and chains on real connections: many ranges through few connections, cancels, lost servers.

local lu = require "luaunit"
local oss = require "oss"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"
local stream = require "stream"
local zip = require "zip"

local fails = pgtest.fails
local NAME = "stream_jobs_test"
local URI, URI2
local ROWS, PAGES_A_RANGE = 100000, 50
local dir, store, admin

local HASH = "SELECT count(*) || '/' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM t"

TestJobs = {}

function TestJobs.setUp()
  dir = (os.getenv "TM_TMP" or os.getenv "TM_BUILD" .. "/tmp") .. "/stream-jobs"
  assert(os.execute(("rm -rf '%s' && mkdir -p '%s'"):format(dir, dir)))
  store = oss.open("file://" .. dir)
  admin = pg.connect(URI)
  admin:exec "DROP TABLE IF EXISTS t; CREATE TABLE t (a int, b text)"
end

function TestJobs.tearDown()
  admin:close()
  store:close()
  os.execute(("rm -rf '%s'"):format(dir))
end

local function fill(conn)
  conn:exec(("INSERT INTO t SELECT g, repeat(md5(g::text), 2) FROM generate_series(1, %d) g; ANALYZE t"):format(ROWS))
  return conn:value "SELECT relpages FROM pg_class WHERE oid = 't'::regclass"
end

local RANGE = "COPY (SELECT * FROM t WHERE ctid >= '(%d,0)' %s) TO STDOUT"

-- The next range of the table as a source on this connection; nil after the last, which is open.
local function ranges(pages)
  local at = 0
  return function(conn)
    if at >= pages then return nil end
    local from = at
    at = at + PAGES_A_RANGE
    return conn:copy_out(RANGE:format(from, at < pages and ("AND ctid < '(%d,0)'"):format(at) or ""), { wait = false })
  end
end

-- Workers that take ranges from one queue: each has a connection, a chain, a job.
local function work(count, next_range)
  local workers, waited = {}, {}
  for i = 1, count do
    local chain, sink = stream.chain(), store:objects { prefix = ("w%d-"):format(i), object_bytes = 1 << 20 }
    local job = stream.start(chain:source(), zip.gzip(), sink)
    local worker = { conn = pg.connect(URI, { session = "data" }), chain = chain, sink = sink, job = job }
    workers[i], workers[chain], workers[job] = worker, worker, worker
    waited[#waited + 1], waited[#waited + 2] = chain, job
  end
  while #waited > 0 do
    for _, ready in ipairs(stream.wait(waited, 60)) do
      local worker = workers[ready]
      if ready == worker.job then
        worker.job:join()
        for i = #waited, 1, -1 do
          if workers[waited[i]] == worker then table.remove(waited, i) end
        end
      else
        local source = next_range(worker.conn)
        if source then worker.chain:give(source) else worker.chain:finish() end
      end
    end
  end
  return workers
end

function TestJobs.test_ranges_of_a_table_through_two_connections_are_every_row_once()
  local want = (fill(admin) and admin:value(HASH))
  local pages = admin:value "SELECT relpages FROM pg_class WHERE oid = 't'::regclass"
  lu.assertTrue(pages > 10 * PAGES_A_RANGE)
  local workers = work(2, ranges(pages))
  admin:exec "TRUNCATE t"
  local rows = 0
  for _, worker in ipairs(workers) do
    for _, object in ipairs(worker.sink:objects()) do
      local sink <close> = admin:copy_in "COPY t FROM STDIN"
      stream.pump(store:reader(object.key, { size = object.bytes, crc64 = object.crc64 }), zip.gunzip(), sink)
      lu.assertEquals(sink:rows(), object.rows)
      rows = rows + object.rows
    end
    lu.assertEquals(worker.conn:state(), "idle")
    lu.assertTrue(worker.chain:stats().sources > 0)
  end
  lu.assertEquals(rows, ROWS)
  lu.assertEquals(admin:value(HASH), want)
end

function TestJobs.test_objects_load_side_by_side()
  for i = 1, 4 do
    local sink <close> = store:writer("in-" .. i)
    for n = 1, 1000 do sink:write(("%d\t%s\n"):format(i * 1000 + n, ("x"):rep(200)), 1) end
    sink:finish()
  end
  local jobs, conns, sinks = {}, {}, {}
  for i = 1, 4 do
    conns[i] = pg.connect(URI, { session = "data" })
    sinks[i] = conns[i]:copy_in "COPY t FROM STDIN"
    jobs[i] = stream.start(store:reader("in-" .. i), sinks[i])
  end
  for i = 1, 4 do
    jobs[i]:join()
    lu.assertEquals(sinks[i]:rows(), 1000)
  end
  lu.assertEquals(admin:value "SELECT count(DISTINCT a) FROM t", 4000)
end

function TestJobs.test_a_connection_is_busy_while_a_job_reads_it_and_free_after()
  local conn <close> = pg.connect(URI)
  local job <close> = stream.start(conn:copy_out("COPY (SELECT pg_sleep(0.3)) TO STDOUT", { wait = false }), stream.discard())
  lu.assertStrContains(fails("usage", conn.query, conn, "SELECT 1").message, "a COPY stream is open on it")
  job:join()
  lu.assertEquals(conn:value "SELECT 1", 1)
end

function TestJobs.test_a_cancel_ends_the_query_and_keeps_the_session()
  local conn <close> = pg.connect(URI)
  local chain <close> = stream.chain()
  local job <close> = stream.start(chain:source(), stream.discard())
  chain:give(conn:copy_out("COPY (SELECT pg_sleep(60)) TO STDOUT", { wait = false }))
  lu.assertEquals(stream.wait({ job, chain }, 0.1), {})
  job:cancel()
  local ok, raised = pcall(job.join, job)
  lu.assertFalse(ok)
  lu.assertEquals(raised.kind, "canceled")
  lu.assertEquals(conn:value "SELECT 1", 1)
end

function TestJobs.test_an_error_in_a_range_is_the_jobs_with_its_sqlstate()
  local conn <close> = pg.connect(URI)
  local chain <close> = stream.chain()
  local job <close> = stream.start(chain:source(), stream.discard())
  chain:give(conn:copy_out("COPY (SELECT 1 / (g - 5000) FROM generate_series(1, 10000) g) TO STDOUT", { wait = false }))
  lu.assertEquals(stream.wait({ job, chain }, 60), { job })
  local _, raised = pcall(job.join, job)
  lu.assertEquals(raised.code, "22012")
  lu.assertFalse(chain:hungry())
end

function TestJobs.test_a_command_that_is_no_copy_is_told_by_the_first_read()
  local conn <close> = pg.connect(URI)
  for sql, kind in pairs { ["SELECT 1"] = "usage", ["COPY nothing TO STDOUT"] = "not_found", ["COPY t FROM STDIN"] = "usage" } do
    local source <close> = conn:copy_out(sql, { wait = false })
    fails(kind, source.read, source)
    fails("io", source.read, source)
    lu.assertEquals(conn:value "SELECT 1", 1)
  end
  local unread = conn:copy_out("COPY (SELECT pg_sleep(60)) TO STDOUT", { wait = false })
  unread:close()
  lu.assertEquals(conn:value "SELECT 1", 1)
end

function TestJobs.test_a_session_ended_by_the_server_fails_its_job_and_no_other()
  local lost, kept = pg.connect(URI), pg.connect(URI2)
  local slow = "COPY (SELECT g, pg_sleep(%s) FROM generate_series(1, %d) g) TO STDOUT"
  local a <close> = stream.start(lost:copy_out(slow:format("0.01", 6000), { wait = false }), stream.discard())
  local b <close> = stream.start(kept:copy_out(slow:format("0.001", 100), { wait = false }), stream.discard())
  admin:value("SELECT pg_terminate_backend($1, 5000)", lost:pid())
  lu.assertEquals(stream.wait({ a }, 60), { a })
  lu.assertFalse((pcall(a.join, a)))
  lu.assertEquals(b:join().rows_out, 100)
  lost:close()
  kept:close()
end

function TestJobs.test_a_connection_closed_under_a_job_fails_it()
  local conn = pg.connect(URI)
  local job <close> = stream.start(conn:copy_out("COPY (SELECT pg_sleep(60)) TO STDOUT", { wait = false }), stream.discard())
  conn:close()
  lu.assertFalse((pcall(job.join, job)))
end

function TestJobs.test_nobody_needs_to_hold_the_connection_of_a_range()
  local chain, sink = stream.chain(), stream.collect()
  local job <close> = stream.start(chain:source(), sink)
  for i = 1, 5 do
    chain:give(pg.connect(URI):copy_out(("COPY (SELECT %d, pg_sleep(0.02)) TO STDOUT"):format(i)))
    collectgarbage()
  end
  chain:finish()
  job:join()
  lu.assertEquals(select(2, stream.collected(sink):gsub("\n", "")), 5)
end

URI = pgtest.database(NAME)
URI2 = pgtest.database(NAME, os.getenv "TM_PG2")
local code = lu.LuaUnit.run()
pgtest.drop(NAME)
pgtest.drop(NAME, os.getenv "TM_PG2")
collectgarbage() -- closes readers that nobody closed, whose threads would count as leaks
os.exit(code)
