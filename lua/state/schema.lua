--- The tables of the state store, as numbered migrations.
---
--- Migration n takes a database from version n-1 to n; the table schema_version holds the
--- newest one applied. A migration that has been released is never changed. The SQL keeps to
--- what SQLite and PostgreSQL both read: no AUTOINCREMENT, no STRICT, ids made by us. Where
--- only PostgreSQL has a setting, it stands in `postgres`, run after the common part.
---
--- Times are milliseconds since 1970 UTC (BIGINT, columns end in _at). `error`, `value`,
--- `settings`, `waiting`, `span`, `policy` and `schedule` of a flow hold JSON.
---
---     run      queued running paused success failed canceled skipped
---     node     waiting running retrying polling success failed skipped canceled
---     attempt  running polling success failed canceled lost
---     slot     run skipped missed superseded
---     notice   pending sending sent failed
---     runner   alive gone
---
--- What is active is found through partial indexes that hold nothing else, so a long history
--- costs the queries of every second nothing: runs to claim, runs of a runner, requests,
--- attempts in a pool, notices to send. They are named in lua/state/*.lua where they are used.

return {
  {
    common = [[
  CREATE TABLE runners (            -- processes that run things
    id            TEXT PRIMARY KEY,
    kind          TEXT NOT NULL,    -- serve, run
    host          TEXT NOT NULL,
    boot          TEXT NOT NULL,    -- of the host, and of the container in it
    pid           BIGINT NOT NULL,
    process_start TEXT NOT NULL,
    state         TEXT NOT NULL,
    jobs          INTEGER,
    lease_ms      BIGINT NOT NULL,
    started_at    BIGINT NOT NULL,
    lease_until   BIGINT NOT NULL,
    ended_at      BIGINT
  );
  CREATE INDEX runners_alive ON runners (id) WHERE state = 'alive';

  CREATE TABLE sources (            -- a flow's document and Lua files, by hash
    hash       TEXT PRIMARY KEY,
    document   TEXT NOT NULL,
    sources    TEXT NOT NULL,
    created_at BIGINT NOT NULL
  );

  CREATE TABLE versions (
    flow         TEXT NOT NULL,
    number       INTEGER NOT NULL,
    hash         TEXT NOT NULL REFERENCES sources (hash),
    comment      TEXT,
    published_at BIGINT NOT NULL,
    published_by TEXT NOT NULL,
    PRIMARY KEY (flow, number)
  );
  CREATE INDEX versions_by_hash ON versions (hash);

  CREATE TABLE flows (              -- published flows and their schedules
    flow         TEXT PRIMARY KEY,
    file         TEXT NOT NULL,
    version_no   INTEGER,           -- NULL: unpublished
    hash         TEXT,
    schedule     TEXT,              -- document.schedule
    policy       TEXT,              -- concurrency, missed, timezone, priority, deadline_s
    published_at BIGINT,
    cursor_at    BIGINT,            -- every slot up to it is in the ledger
    next_at      BIGINT,
    events_seen  BIGINT NOT NULL DEFAULT 0, -- it has used every event up to this seq that it may
    paused_at    BIGINT,
    paused_by    TEXT,
    pause_reason TEXT,
    changed      BIGINT NOT NULL
  );
  CREATE INDEX flows_by_next ON flows (next_at) WHERE next_at IS NOT NULL;

  CREATE TABLE flow_log (           -- who did what to a flow
    flow       TEXT NOT NULL,
    seq        BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    by_user    TEXT NOT NULL,
    what       TEXT NOT NULL,       -- publish rollback unpublish pause resume
    version_no INTEGER,
    reason     TEXT,
    PRIMARY KEY (flow, seq)
  );

  CREATE TABLE slots (              -- the ledger: what became of each firing time
    flow       TEXT NOT NULL,
    schedule   TEXT NOT NULL,       -- main, event
    slot_at    BIGINT NOT NULL,
    first_at   BIGINT,              -- a row that stands for many slots: the first of them,
    slot_count BIGINT NOT NULL DEFAULT 1, -- and how many; slot_at is the last
    state      TEXT NOT NULL,
    run_id     TEXT,
    reason     TEXT,
    version_no INTEGER,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (flow, schedule, slot_at)
  );

  CREATE TABLE runs (
    id                TEXT PRIMARY KEY,
    short_id          TEXT NOT NULL,  -- its last six digits
    flow              TEXT NOT NULL,
    file              TEXT NOT NULL,
    version           TEXT NOT NULL,  -- sources.hash
    version_no        INTEGER,        -- NULL: never published
    cause             TEXT NOT NULL,  -- manual schedule event trigger backfill rerun subflow
    schedule          TEXT,
    slot_at           BIGINT,
    state             TEXT NOT NULL,
    concurrency       TEXT NOT NULL,  -- skip queue parallel
    priority          INTEGER NOT NULL DEFAULT 5,
    scheduled_at      BIGINT NOT NULL,
    business_at       BIGINT NOT NULL,
    timezone          TEXT NOT NULL,
    settings          TEXT,           -- set, only
    parent_run        TEXT,
    parent_node       TEXT,
    root_run          TEXT NOT NULL,  -- the run at the top of its subflows, or itself
    of_run            TEXT,           -- the one that it repeats
    backfill          TEXT,
    backfill_position INTEGER,
    runner            TEXT,           -- who has it; of a queued run, who alone may claim it
    epoch             BIGINT NOT NULL DEFAULT 0, -- grows when it changes hands
    request           TEXT,           -- stop pause resume
    created_at        BIGINT NOT NULL,
    claimed_at        BIGINT,
    started_at        BIGINT,
    ended_at          BIGINT,
    deadline_at       BIGINT,
    late_at           BIGINT,
    message           TEXT,
    error             TEXT
  );
  CREATE INDEX runs_to_claim ON runs (priority DESC, scheduled_at, id)
    WHERE runner IS NULL AND backfill IS NULL AND state IN ('queued', 'running');
  CREATE INDEX runs_of_root ON runs (root_run)
    WHERE root_run <> id AND state IN ('queued', 'running', 'paused');
  CREATE INDEX runs_reserved ON runs (runner) WHERE runner IS NOT NULL AND state = 'queued';
  CREATE INDEX runs_of_runner ON runs (runner)
    WHERE runner IS NOT NULL AND state IN ('queued', 'running', 'paused');
  CREATE INDEX runs_requested ON runs (runner)
    WHERE request IS NOT NULL AND state IN ('queued', 'running', 'paused');
  CREATE INDEX runs_of_flow_active ON runs (flow)
    WHERE state IN ('queued', 'running', 'paused');
  CREATE INDEX runs_of_flow_started ON runs (flow)
    WHERE state IN ('running', 'paused');
  CREATE INDEX runs_of_flow_queued ON runs (flow, priority DESC, scheduled_at, id)
    WHERE state = 'queued';
  CREATE INDEX runs_of_backfill ON runs (backfill, state, backfill_position)
    WHERE backfill IS NOT NULL AND state IN ('queued', 'running', 'paused');
  CREATE INDEX runs_by_deadline ON runs (deadline_at)
    WHERE deadline_at IS NOT NULL AND late_at IS NULL AND state IN ('queued', 'running', 'paused');
  CREATE INDEX runs_by_time ON runs (created_at);
  CREATE INDEX runs_by_flow ON runs (flow, scheduled_at);
  CREATE INDEX runs_by_short_id ON runs (short_id);
  CREATE INDEX runs_by_parent ON runs (parent_run, parent_node) WHERE parent_run IS NOT NULL;
  CREATE INDEX runs_by_backfill ON runs (backfill, backfill_position) WHERE backfill IS NOT NULL;
  CREATE INDEX runs_by_version ON runs (version);

  CREATE TABLE nodes (
    run_id     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    node       TEXT NOT NULL,
    position   INTEGER NOT NULL,    -- in the order of the plan, from 1
    kind       TEXT NOT NULL,
    upstream   TEXT NOT NULL,       -- JSON array of names
    state      TEXT NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    before     INTEGER NOT NULL DEFAULT 0, -- attempts made before the run was last restored
    lost       INTEGER NOT NULL DEFAULT 0, -- since `before`: lost ones, and withdrawn ones
    lost_row   INTEGER NOT NULL DEFAULT 0, -- lost ones in a row
    next_at    BIGINT,              -- of a retry or a probe
    waiting    TEXT,                -- what it waits for
    started_at BIGINT,
    ended_at   BIGINT,
    row_count  BIGINT,
    bytes      BIGINT,
    message    TEXT,                -- why it is in this state
    tolerated  INTEGER NOT NULL DEFAULT 0, -- it failed and was allowed to
    late_at    BIGINT,              -- when it was seen to be past its deadline
    PRIMARY KEY (run_id, node)
  );

  CREATE TABLE attempts (
    run_id        TEXT NOT NULL,
    node          TEXT NOT NULL,
    attempt       INTEGER NOT NULL,
    state         TEXT NOT NULL,
    runner        TEXT,
    pool          TEXT,
    probes        INTEGER NOT NULL DEFAULT 0, -- how often it looked and had to wait
    pid           BIGINT,
    started_at    BIGINT NOT NULL,
    ended_at      BIGINT,
    row_count     BIGINT,
    bytes         BIGINT,
    cpu_ms        BIGINT,
    max_rss_bytes BIGINT,
    exit_code     INTEGER,
    exit_signal   TEXT,
    error         TEXT,
    PRIMARY KEY (run_id, node, attempt),
    FOREIGN KEY (run_id, node) REFERENCES nodes (run_id, node) ON DELETE CASCADE
  );
  CREATE INDEX attempts_in_pool ON attempts (pool) WHERE pool IS NOT NULL AND state = 'running';

  CREATE TABLE sessions (           -- server sessions that an attempt opened
    run_id        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    node          TEXT NOT NULL,
    attempt       INTEGER NOT NULL,
    connection    TEXT NOT NULL,
    backend_pid   BIGINT NOT NULL,
    backend_start TEXT NOT NULL,
    PRIMARY KEY (run_id, node, attempt, connection, backend_pid, backend_start)
  );

  CREATE TABLE outputs (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    node   TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (run_id, node, name)
  );

  CREATE TABLE logs (
    run_id  TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    node    TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    seq     BIGINT NOT NULL,        -- gapless but for lines that were dropped
    at      BIGINT NOT NULL,
    stream  TEXT NOT NULL,          -- stdout, stderr, log
    level   TEXT NOT NULL,
    line    TEXT NOT NULL,
    PRIMARY KEY (run_id, node, attempt, seq)
  );

  CREATE TABLE decisions (          -- why things went as they did
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq    BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    node   TEXT,
    what   TEXT NOT NULL,           -- retry, skip, cancel, timeout, ...
    reason TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
  );

  CREATE TABLE notices (            -- the outbox of hooks
    id         TEXT PRIMARY KEY,
    run_id     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    flow       TEXT NOT NULL,
    what       TEXT NOT NULL,       -- success failure late
    node       TEXT,                -- the one that is late; NULL: it is about the run
    target     TEXT NOT NULL,       -- JSON of one entry of the flow's hooks
    state      TEXT NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    next_at    BIGINT NOT NULL,
    runner     TEXT,
    error      TEXT,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
  );
  CREATE INDEX notices_to_send ON notices (next_at) WHERE state IN ('pending', 'sending');
  CREATE INDEX notices_by_run ON notices (run_id);

  CREATE TABLE backfills (
    id         TEXT PRIMARY KEY,
    flow       TEXT NOT NULL,
    from_at    BIGINT,
    to_at      BIGINT,
    ordering   TEXT,
    jobs       INTEGER NOT NULL,    -- most runs of it at once
    settings   TEXT,
    created_at BIGINT,
    created_by TEXT,
    total      INTEGER,
    open       INTEGER NOT NULL DEFAULT 1 -- 0: none of its runs is active
  );
  CREATE INDEX backfills_open ON backfills (id) WHERE open = 1;

  CREATE TABLE events (             -- successes that some flow waits for
    seq          BIGINT PRIMARY KEY,
    flow         TEXT NOT NULL,
    node         TEXT NOT NULL,     -- '' for the flow itself
    run_id       TEXT NOT NULL,
    cause        TEXT NOT NULL,
    scheduled_at BIGINT NOT NULL,
    at           BIGINT NOT NULL
  );
  CREATE INDEX events_by_flow ON events (flow, node, seq);
  CREATE UNIQUE INDEX events_by_run ON events (run_id, node);

  CREATE TABLE event_uses (
    flow      TEXT NOT NULL,
    event_seq BIGINT NOT NULL,
    slot_at   BIGINT NOT NULL,
    PRIMARY KEY (flow, event_seq)
  );

  CREATE TABLE changes (one INTEGER PRIMARY KEY, seq BIGINT NOT NULL);
  INSERT INTO changes VALUES (1, 1);
  ]],
    -- Room for updates in place (HOT), and vacuum before the active rows drown in dead ones.
    postgres = [[
  ALTER TABLE runs     SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.01);
  ALTER TABLE nodes    SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
  ALTER TABLE attempts SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
  ALTER TABLE runners  SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
  ALTER TABLE flows    SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
  ALTER TABLE changes  SET (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
  ]],
  },
  {
    common = [[
  CREATE TABLE node_objects (       -- objects that attempts of extracts have completed
    run_id    TEXT NOT NULL,
    node      TEXT NOT NULL,
    attempt   INTEGER NOT NULL,
    n         BIGINT NOT NULL,      -- in the order of their completion, from 1
    key       TEXT NOT NULL,        -- below the extract's location
    row_count BIGINT NOT NULL,
    bytes     BIGINT NOT NULL,
    raw_bytes BIGINT NOT NULL,
    crc64     TEXT NOT NULL,        -- decimal
    etag      TEXT NOT NULL,
    span      TEXT,                 -- JSON: the range of keys whose rows it holds, all of them
    at        BIGINT NOT NULL,
    PRIMARY KEY (run_id, node, attempt, n),
    FOREIGN KEY (run_id, node) REFERENCES nodes (run_id, node) ON DELETE CASCADE
  );

  CREATE TABLE node_facts (         -- what a node keeps from run to run: watermark, columns
    flow     TEXT NOT NULL,
    node     TEXT NOT NULL,
    name     TEXT NOT NULL,
    value    TEXT NOT NULL,
    run_id   TEXT NOT NULL,
    attempt  INTEGER NOT NULL,
    saved_at BIGINT NOT NULL,
    PRIMARY KEY (flow, node, name)
  );

  CREATE TABLE pending_facts (      -- become node_facts at their moment (lua/state/facts.lua)
    run_id  TEXT NOT NULL,
    node    TEXT NOT NULL,
    name    TEXT NOT NULL,
    moment  TEXT NOT NULL,          -- done, delivered
    value   TEXT,                   -- NULL: the run has the window, and nothing in it yet
    attempt INTEGER NOT NULL,
    PRIMARY KEY (run_id, node, name),
    FOREIGN KEY (run_id, node) REFERENCES nodes (run_id, node) ON DELETE CASCADE
  );
  ]],
  },
}
