--- A day of events, the fast and careful way: read in parallel under one snapshot, loaded while
--- it is still being read, compared by hash, and put in the place of that day.
---
---     events of the day ~~> the day in the warehouse
---
--- The table in the warehouse is made on the first run, with what a Greenplum-family database wants to know
--- (a stock PostgreSQL leaves that out). A run of a day that was loaded before replaces it, so late
--- events are a matter of `tidemill rerun`, or of `tidemill backfill` for many days. The source needs
---
---     CREATE TABLE events (id bigint PRIMARY KEY, kind text, at timestamptz, amount numeric(12,2), payload jsonb);
---
--- Two sessions read pages of the table, so it should be a plain one of PostgreSQL 14 or later; elsewhere name a
--- column in `split_by`. Objects appear in the lake as they are completed, and the load takes each at once into a
--- staging table; when the extract has put its manifest, one transaction deletes the day and inserts what was
--- staged. Where AnalyticDB is to read the objects itself, on all its segments: objects = 16 and
--- compress = "gzip" for the extract, via = "oss_fdw" in place of jobs for the load.
---
--- `tidemill run scripts/events_by_day.lua` moves yesterday's events; scripts/tidemill.lua names the environment
--- variables of the connections.

local flow = require "flow"

-- A predicate for both sides: midnight to midnight in the flow's zone.
local DAY = "at >= '${day} 00:00:00+08' AND at < '${next_day} 00:00:00+08'"

return flow "Events by day" {
  schedule    = { cron = "0 15 0 * * ?", timezone = "Asia/Shanghai" },
  on_error    = "complete_running",
  concurrency = "queue",
  missed      = { "all", window = "7d" },
  tags        = { "events", "daily" },

  vars = {
    day      = flow.time "yyyy-MM-dd",
    next_day = flow.time("yyyy-MM-dd", "+1d"),
  },

  flow.extract "events of the day" {
    from        = "rds",
    table       = "events",
    where       = DAY,
    to          = "lake:events/${day}/",
    jobs        = 2,
    compress    = "zstd",
    verify      = "hash",
    retries     = 3,
    retry_delay = "30s",
  },

  flow.load "the day in the warehouse" {
    after   = "events of the day",
    from    = "lake:events/${day}/",
    on      = "adbpg",
    into    = "dw.events",
    mode    = "replace_where",
    where   = DAY,
    create  = {
      distributed_by = { "id" },
      with = { appendonly = true, orientation = "column", compresstype = "zstd" },
    },
    jobs    = 2,
    verify  = "hash",
    retries = 3,
    timeout = "2h",
  },
}
