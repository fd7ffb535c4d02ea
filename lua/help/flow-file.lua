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

`tidemill help flow` lists every field. Further topics: variables, schedules, policies, connections; for
transfers extracts, loads, incremental, checks, exactly-once, formats, warehouse.

## Kinds of nodes

    flow.sql        statements on a database, in one transaction
    flow.extract    a query's rows to an object store
    flow.load       what an extract wrote, into a table
    flow.lua        a function
    flow.shell      a command
    flow.assign     a query's cell, row or column becomes variables
    flow.loop       SQL for each item of a list
    flow.branch     a gate: what is behind it runs if a condition holds
    flow.wait_for   another flow, the previous run, an object, an extract, a query, new rows
    flow.check      rules that data must follow
    flow.subflow    a run of another flow

They work together like this:

    local flow = require "flow"

    return flow "Prices" {
      params = { region = "eu" },

      flow.wait_for "stock" { flow = "Stock", at = "day", timeout = "3h" },
      flow.assign "shops" {
        on = "rds", sql = "SELECT id FROM shops WHERE region = '${region}'",
        outputs = { ids = { row = "all", default = "" } },
      },
      flow.branch "any shop" { after = { "stock", "shops" }, condition = "${ids} != ''" },
      flow.loop "each shop" {
        after = "any shop", on = "rds", list = "${ids}", batch = 10,
        sql = "SELECT refresh_prices(${loop.item})",
      },
      flow.check "sane" {
        after = "each shop", on = "rds", table = "prices",
        rules = { { not_null = { "shop", "price" } }, { range = { column = "price", min = 0 } } },
      },
      flow.shell "tell" {
        after = "sane", trigger = "all_done", when = "${sane.status} = failed",
        command = { "logger", "prices of ${region} are bad: ${sane.error}" },
      },
    }

## Declaring is pure

Loading the file has no effect: it sees string, table, math, utf8 and require, but no io, os,
print, clock, random numbers or network. `require` gives "flow" and pure Lua files beside the
flow. Other modules may be named (local log = require "log") but are used only in functions
that run in nodes; there the whole standard library is at hand. A file that computes for more
than ten seconds is stopped; reading an undefined variable is an error. Nodes may be made by
loops and functions: a list of nodes stands for its nodes.

## Outputs

flow.assign and flow.lua hand values on; so does flow.shell if the last line that its command
prints is a JSON object: {"rows": "5"}. Nodes behind them read `${rows}`. What else a node has is
named with the node, `${node.rows}`:

    sql, load       rows                       extract   rows, objects, bytes, manifest
    loop            rows, iterations           branch    result (true or false)
    check           passed, warned, failed, violations, report (JSON)
    shell           exit_code                  subflow   run_id, and all outputs of its nodes
    load with reject: rejected, rejects (a manifest's id) as well
    wait_for        run_id and all outputs of the run; size, etag of an object; manifest, rows of an
                    extract; value of a query

A loop walks over `list`, a text that is split at "," (or `separator`, or a Lua `pattern`) or a list
of texts, over several `lists` of one length in step, or counts to `count`. Its sql knows
${loop.item} (${loop.item1} of the second list, or a `name` of its own) and ${loop.index}, from 1.

A subflow's `file` is published together with the flow; `flow` names one that is published by
itself, of which the newest version runs. Either way it runs for the same business time.

## Maps

`map` of flow.extract gets each row. Fields are read and set by name or position (row.email,
row[3]); they are texts as PostgreSQL writes them, NULL is `pg.null`. The row is used again for the
next one, so keep no reference to it. Return the row, or another table, to keep it; nil drops it.

    map = function(row)
      if row.customer == "test" then return nil end
      if type(row.email) == "string" then row.email = row.email:lower() end
      return row
    end
]]
