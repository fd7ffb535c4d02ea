return [[
# Schedules

A flow has one schedule, or runs by hand only. A schedule takes effect when the flow is
published, and `tidemill serve` runs.

    schedule = "0 30 1 * * ?"                                   -- cron alone
    schedule = { cron = "0 30 1 * * ?", timezone = "Asia/Shanghai", dst = "once" }
    schedule = { every = "15m" }
    schedule = { at = "2026-01-02 03:04:05" }                   -- once
    schedule = { after = { "Orders", "Stock/load" }, timeout = "2h" }

`timezone` is the zone of the schedule and of time variables; without it that of tidemill.lua
counts, else UTC.

## cron

Quartz's fields: second minute hour day-of-month month day-of-week [year], with ? L W #. Five
fields are read as in crontab. "00 00 00-23/1 * * ?" fires every full hour. In six fields
day-of-week 1 is Sunday.

    0 0 2 * * ?          02:00 each day          0 0 2 ? * MON-FRI    on weekdays
    0 0/15 * * * ?       each quarter of an hour 0 0 2 L * ?          on a month's last day
    0 0 1 1 * ?          on a month's first      0 0 2 ? * 6#1        on its first Friday

`dst` says what becomes of local times that a clock change skips or repeats:

    once      a time that is skipped fires right after the gap, one that comes twice fires once
              (default)
    quartz    as Quartz does: skipped is skipped, twice fires at the second pass
    each      every pass of the clock counts

## every, at

`every` counts from `from`, else from midnight of 1970-01-01 in the zone, in elapsed time: "1d" is 24
hours also where clocks change. `at` fires once. Nothing fires for times before the flow was
published: an `at` that has passed never does.

## from, to

With cron and every, nothing fires before `from` or after `to`. Both are "yyyy-MM-dd" or
"yyyy-MM-dd HH:mm:ss" in the zone; a date as `to` counts to the end of that day.

## after

The flow starts when all that `after` names have succeeded: flows, or nodes as "flow/node" (a name
with a slash in it: { flow = "a/b", node = "c" }). Successes belong together when their scheduled
times lie on one date in this flow's zone, and each is used once. `timeout` is the longest time from the
first of them to the last; a set that is not complete by then is recorded as missed. Runs by hand count
too, unless trial = false. The run is scheduled for the latest of their scheduled times.

## Business time

A run belongs to its scheduled time, however late it starts, and its time variables to the
business time, a day before (`tidemill help variables`). Each firing time is a slot: whatever
becomes of it, run, skipped or missed, is recorded once; long runs of missed ones share a record.
A slot that `tidemill serve` comes to more than a minute late (its --grace) is a missed one. See
`tidemill help policies`.
]]
