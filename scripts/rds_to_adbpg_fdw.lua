--- The tutorial's pipeline with the tutorial's own SQL: both databases have oss_fdw.
---
--- On Alibaba Cloud they have theirs; elsewhere `make install-fdw` puts ours into a stock
--- PostgreSQL. The SQL is byte for byte that of the tutorial, whose other statements run once:
---
---     rds:    CREATE TABLE t_src (a int, b int, c date);
---             INSERT INTO t_src SELECT generate_series(1, 1000), 1, now();
---             CREATE EXTENSION IF NOT EXISTS oss_fdw;
---             CREATE SERVER ossserver FOREIGN DATA WRAPPER oss_fdw
---               OPTIONS (host '...', id '...', key '...', bucket '...');
---     adbpg:  CREATE TABLE t_target (a int, b int, c date);
---             CREATE EXTENSION IF NOT EXISTS oss_fdw;
---             CREATE SERVER oss_serv FOREIGN DATA WRAPPER oss_fdw
---               OPTIONS (endpoint '...', bucket '...');
---             CREATE USER MAPPING FOR PUBLIC SERVER oss_serv OPTIONS (id '...', key '...');
---
--- Mind what the tutorial does not say: each run appends to t_target every row since the day
--- before, and to the folder of that day. rds_to_adbpg.lua loads each object once.

local flow = require "flow"

return flow "Import RDS PG data to OSS" {
  description = "daily archive of t_src through foreign tables, loaded into the warehouse",

  -- every hour from 00:00 to 23:59; "Complete running tasks" and "Skip" in the console
  schedule    = { cron = "00 00 00-23/1 * * ?", timezone = "Asia/Shanghai" },
  on_error    = "complete_running",
  concurrency = "skip",

  flow.sql "Extract data from RDS" {
    vars = { mydate = flow.time "yyyyMMdd" },
    on   = "rds",
    sql  = "DROP FOREIGN TABLE IF EXISTS oss_${mydate}; \z
            CREATE FOREIGN TABLE IF NOT EXISTS oss_${mydate} (a int, b int, c date) SERVER ossserver \z
              OPTIONS ( dir 'rds/t3/${mydate}/', DELIMITER '|' , format 'csv', encoding 'utf8'); \z
            INSERT INTO oss_${mydate} SELECT * FROM t_src WHERE c >= '${mydate}';",
  },

  flow.sql "Load data to ADBPG" {
    after = "Extract data from RDS",
    vars  = { mydate = flow.time "yyyyMMdd" },
    on    = "adbpg",
    sql   = "CREATE FOREIGN TABLE IF NOT EXISTS oss_${mydate}( a int , b int , c date ) SERVER oss_serv \z
              OPTIONS ( dir 'rds/t3/${mydate}/', format 'csv', delimiter '|', encoding 'utf8'); \z
             INSERT INTO t_target SELECT * FROM oss_${mydate};",
  },
}
