return [[
# Variables

`${name}` in any text of a node is replaced before the text reaches a database or store.
Replacement is textual: quotes around a value are yours. Names are letters, digits, '_' and '.',
and may start with a digit. `$${` stands for a literal `${`. An unknown name is an error of
`tidemill check`, before anything runs.

A value that comes from outside, such as an output or an error, may hold quotes. In a command write a
list, `{ "logger", "it says ${words}" }`, or `env = { WORDS = "${words}" }` and "$WORDS"; in SQL let
a value that strangers choose stay in a table, and read it there.

## Where they come from

The first of these that defines the name counts; a clash gives a warning:

    1. --set NAME=VALUE of run, plan, backfill ..., or `set` of a subflow
    2. vars of the node                 vars = { day = flow.time "yyyyMMdd" }
    3. vars of the flow
    4. params of the flow               params = { region = "eu" }
    5. constants of the flow            constants = { schema = "dw" }
    6. outputs of nodes upstream        ${max_id}, or ${node.max_id}
    7. states of nodes upstream         ${node.status}, ${node.error}
    8. the system

    bizdate         business time, yyyy-MM-dd
    biztime         business time, yyyy-MM-dd HH:mm:ss
    scheduled_date  scheduled time, yyyy-MM-dd
    scheduled_time  scheduled time, yyyy-MM-dd HH:mm:ss
    timezone        the flow's zone
    flow_name       node_name       run_id

A node's name may hold blanks: ${orders to the lake.rows}. `tidemill help flow-file` lists the
outputs of each kind of node, and the variables of a flow.loop. Texts in vars and constants may
refer to other variables. Outputs, params and what was set are data, they are never looked into.

## Params

What a run may be given. The type is checked; a param without default must be set, so a flow
with a schedule gives each of its params a default.

    params = {
      region = "eu", -- a default alone: its type counts
      limit  = { type = "integer", default = 1000, description = "most rows" },
      day    = { type = "date", default = flow.time "yyyy-MM-dd" },
    }

Types: text, integer, number, boolean (true, false), date (yyyy-MM-dd, perhaps with a time). --set
may also give vars and constants another value.

## Time variables

flow.time(format, offset...) writes the business time: the scheduled time minus one day, in the
flow's zone. It is fixed when the run is created; retries and reruns keep it. For a run by hand
the scheduled time is now, or --at.

    flow.time "yyyyMMdd"               the day before the scheduled time: 20260101
    flow.time("yyyy-MM-dd", "+1d")     the scheduled day
    flow.time("yyyyMM01", "-1M")       first of the month before
    flow.time "yyyy-MM-dd|-1M+1d"      the same offsets in one text

Offsets: sign, number, unit: y years, M months, w weeks, d days, h hours, m minutes. The largest
unit applies first, whatever the order; a day that a month lacks becomes its last.

    G era (AD)        y year (yyyy, yy)      M month (M, MM, MMM)   d day (d, dd)
    Y year of week    w week of year         W week of month        D day of year (D, DD, DDD)
    E weekday name    e weekday, 1 = Monday  a AM or PM             z zone, UTC+08:00
    H hour 0-23       h hour 1-12            K hour 0-11            k hour 1-24
    m minute          s second               S milliseconds

Names are English, or Chinese (星期一, 上午) with locale = "zh" among the flow's settings.
Weeks run Monday to Sunday; week 1 holds January 1. Other characters pass through; 'text' in
single quotes is literal, '' is one quote.
]]
