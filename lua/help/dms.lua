return [[
# For those who come from DMS task flows

What Alibaba Cloud's DMS task orchestration does, and how it is done here.

## Flows, runs, versions

    task flow             a Lua file that returns a flow              tidemill help flow-file
    edge                  `after`; a cycle or an unknown name is an error of check
    editing version       the file; `tidemill run` runs it (try run)
    published version     `tidemill publish`; schedules run the newest
    instance              a run: `tidemill runs`, `show`; keeps its version and business time
    business time         scheduled time minus one day, the time of day kept; for runs by hand now, or --at
    publish with comment  publish -m TEXT                             versions, diff, rollback, unpublish
    export of a version   `tidemill diff FLOW 1 2` shows texts; the files belong in your version control
    changed, unpublished  `tidemill flows`: "edited since"
    business scenario     folders of files, and `tags`

## Nodes

    single instance SQL        flow.sql
    loop SQL                   flow.loop: lists in step, a count, batches with a pause; the index counts from 1
    SQL assignment             flow.assign: row and column count from 1, "all" and a separator; an empty result
                               or a NULL is an error unless the output has a default
    conditional branch         flow.branch; also `when` of any node
    script                     flow.shell: a last line of JSON becomes outputs
    ECS, SSH remote command    flow.shell with ssh: command = { "ssh", "host", "..." }
    dependency check           flow.wait_for: flow, node, previous; also of this flow's last cycle. It is for all runs
                               of a span: at = "week", offset = "-1w" are those of the week before
    SQL status check           flow.wait_for: query
    table time-column check    flow.wait_for: table, column, newer_than
    file check                 flow.wait_for: object, on OSS, S3 or a directory
    audit task                 flow.check: rules, a report, fail or warn
    offline data integration,  flow.extract and flow.load: rows through an object store, exactly once
    DTS full copy of tables    (rows, and tables by create = true; other objects by flow.sql)
    cross-database SQL         flow.extract and flow.load, or postgres_fdw inside flow.sql
    backup                     flow.shell with pg_dump
    subflow                    flow.subflow (DMS has none)
    anything else              flow.lua: a function with the whole standard library

Left out: Spark, DLA and Lindorm jobs, lock-free change, DTS checkpoints: services of that cloud. A flow.shell that
calls their command line, and a flow.wait_for on a query or an object, take their place.

## Variables

    node, flow variable    vars of a node, of the flow: flow.time "yyyyMMdd", with offsets; the same
                           letters, ranges and units            tidemill help variables
    constant               constants
    bizdate                ${bizdate}
    flow id, run time      ${flow_name}, ${run_id}, ${scheduled_time}, ${scheduled_date}, ${biztime}
    status variables       ${node.status}, ${node.error}
    outputs                ${name}, or ${node.name}
    SQL preview            tidemill plan
    an unknown ${name}     is an error before anything runs; $${ is a literal ${
    a name in two places   the nearer one counts, with a warning: node, flow, params, constants, outputs

## Schedules

    timed, once            schedule = { cron = ... }, { every = ... }, { at = ... }
    cycle (hour ... month) a cron expression of Quartz, ? L W # and the year included
    effective time         from, to
    event                  schedule = { after = { "flow", "flow/node" }, timeout = ..., trial = ... }
    time zone              timezone; the project's, else UTC (not Asia/Shanghai)
    clock changes          dst = "once", "quartz" or "each"
    missed firings         missed = "skip", "latest" or "all", with a window; each is recorded

Events belong together when their scheduled times lie on one date in the flow's zone.

## Policies

    complete running tasks on_error = "complete_running" (default), or "stop", or "continue"
    skip                   concurrency = "skip" (default, leaves a record), or "queue", or "parallel"
    rerun on failure       retries, retry_delay, backoff
    resource quota         pools = { rds = 20 } in tidemill.lua: node attempts at once on a connection, across
                           flows and hosts that share a state store
    priority               priority of nodes and flows, 1 to 10, 10 first
    longest wait           max_wait of a node: it then leaves the queue and fails (default none)
    limits                 timeout of a node (default none); no limit on flows, nodes or hours

## By hand

    try run                        tidemill run FLOW.lua
    at a point in time             tidemill run --at TIME: variables are of the day before it
    test run current node          tidemill run --only NODE
    from current node              tidemill run --from-node NODE; of a run that was: rerun RUN --from NODE
    dry run                        tidemill trigger FLOW --dry: a success without running anything
    backfill                       tidemill backfill FLOW --from DATE --to DATE: business dates, both included;
                                   --order, --every, --version, --only-missing, --jobs
    start nodes, excluded nodes    --only, --from-node and --without of backfill, trigger and run
    restore                        tidemill restore RUN: failed nodes and what is behind them; same version and time
    rerun                          tidemill rerun RUN: as a new run; same version and time
    stop, suspend, resume          tidemill stop, pause, resume RUN
    set to successful              tidemill mark RUN success
    operation centre               tidemill runs with filters and --summary, flows, show, logs -f, why; --json of
                                   each, and /metrics of serve; pause --all before a busy day

States of a node: waiting, running, retrying, polling (waits for something), success, failed, skipped,
canceled.

## People

    notifications          on_success, on_failure, on_late            tidemill help hooks
    SLA                    deadline of the flow, deadline of a node; on_late tells (no default of 18 h)
    owner, stakeholder     `owner`, `description`, `tags` are kept with each version; they grant nothing
    roles                  left out: who may write the files, read the environment and reach the state
                           store may do what tidemill does
    whose permissions      those of the users in the connections of tidemill.lua, whoever starts a run
    operation history      who published, rolled back, paused, resumed: tidemill versions FLOW; what was done to
                           a run: tidemill why RUN
]]
