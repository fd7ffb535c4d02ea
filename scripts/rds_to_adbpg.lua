--- The tutorial's pipeline: each hour, rows of RDS for PostgreSQL go through OSS into
--- AnalyticDB for PostgreSQL.
---
--- Neither database needs an extension: tidemill itself writes and reads the objects. They
--- are the same '|'-delimited CSV under the same folder as in the tutorial. Before the first
--- run:
---
---     rds:    CREATE TABLE t_src (a int, b int, c date);
---             INSERT INTO t_src SELECT generate_series(1, 1000), 1, now();
---     adbpg:  CREATE TABLE t_target (a int, b int, c date);
---
--- `tidemill run scripts/rds_to_adbpg.lua` tries it once; scripts/tidemill.lua names the
--- environment variables of the connections.

local flow = require "flow"

return flow "Import RDS PG data to OSS" {
  description = "daily archive of t_src in the lake, loaded into the warehouse",

  -- every hour from 00:00 to 23:59; "Complete running tasks" and "Skip" in the console
  schedule    = { cron = "00 00 00-23/1 * * ?", timezone = "Asia/Shanghai" },
  on_error    = "complete_running",
  concurrency = "skip",

  -- the business day: the day before the scheduled time
  vars = { mydate = flow.time "yyyyMMdd" },

  flow.extract "Extract data from RDS" {
    from      = "rds",
    query     = "SELECT * FROM t_src WHERE c >= '${mydate}'",
    to        = "lake:rds/t3/${mydate}/",
    format    = "csv",
    delimiter = "|",
    encoding  = "utf8",
  },

  flow.load "Load data to ADBPG" {
    after = "Extract data from RDS",
    from  = "lake:rds/t3/${mydate}/",
    on    = "adbpg",
    into  = "t_target",
  },
}
