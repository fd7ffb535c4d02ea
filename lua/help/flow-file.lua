return [[
# Flow files

A flow file is a Lua file that returns one flow: a name, settings, and nodes.

    local flow = require "flow"

    return flow "Orders" {
      schedule = { cron = "0 30 1 * * ?", timezone = "Asia/Shanghai" },
      vars     = { day = flow.time "yyyy-MM-dd" },

      flow.extract "out" {
        from = "rds", query = "SELECT * FROM orders WHERE d = '${day}'",
        to = "lake:orders/${day}/", compress = "gzip",
      },
      flow.load "in" { after = "out", from = "lake:orders/${day}/", on = "adbpg", into = "orders" },
    }

Kinds of nodes: flow.sql runs statements, flow.extract writes a query's rows to an object
store, flow.load appends them to a table, flow.lua runs a function. `tidemill help flow`
lists every field.

## Declaring is pure

Loading the file has no effect: it sees string, table, math, utf8 and require, but no io, os,
print, clock, random numbers or network. `require` gives "flow" and pure Lua files beside the
flow. Other modules may be named (local log = require "log") but are used only in functions
that run in nodes; there the whole standard library is at hand. A file that computes for more
than ten seconds is stopped; reading an undefined variable is an error.

## Order

A node starts when every node in its `after` has succeeded; nodes that do not need each other
run at the same time. `retries`, `retry_delay` (the first pause), `backoff` (its factor) and
`timeout` belong to each node. Durations: seconds, or "90s", "5m", "1h30m", "2d".

## Policies

    on_error     complete_running  running nodes finish, nothing new starts (default)
                 stop              running nodes are cancelled
                 continue          branches that do not need the failed node go on
    concurrency  skip              a firing while the last run still runs is recorded, not run (default)
                 queue             it waits
                 parallel          it runs beside it
    missed       skip              firings while no runner was up are recorded only (default)
                 latest            the latest of them runs
                 all               each of them runs; { "all", window = "3d" } limits how old

## Maps

`map` of flow.extract gets each row. Fields are read and set by name or position (row.email,
row[3]); they are texts as PostgreSQL writes them, NULL is `pg.null`. The row is used again for the
next one, so keep no reference to it. Return the row, or another table, to keep it; nil drops it.

    map = function(row)
      if row.customer == "test" then return nil end
      if type(row.email) == "string" then row.email = row.email:lower() end
      return row
    end

## Schedules

`cron` is Quartz's: second minute hour day-of-month month day-of-week [year], with ? L W #;
five fields are read as in crontab. "00 00 00-23/1 * * ?" fires every full hour. `timezone` is
also the zone of time variables. `dst` says what a clock change does: once (default), quartz,
each. `from` and `to` bound the firings.
]]
