--- The tables of the state store, as numbered migrations.
---
--- Migration n takes a database from version n-1 to n; the table schema_version holds the
--- newest one applied. A migration that has been released is never changed. The SQL keeps to
--- what SQLite and PostgreSQL both read: no AUTOINCREMENT, no STRICT, ids made by us.
---
--- Times are milliseconds since 1970 UTC (BIGINT, columns end in _at). `error` and `value`
--- columns hold JSON. A run's states are running, success, failed, canceled; a node's are
--- waiting, running, retrying, success, failed, skipped, canceled; an attempt's are
--- running, success, failed, canceled.

return {
  [[
  CREATE TABLE runs (
    id           TEXT PRIMARY KEY,
    flow         TEXT NOT NULL,
    file         TEXT NOT NULL,
    version      TEXT,              -- hash of the flow's sources
    cause        TEXT NOT NULL,     -- what started it: manual, schedule ...
    state        TEXT NOT NULL,
    scheduled_at BIGINT NOT NULL,
    business_at  BIGINT NOT NULL,
    timezone     TEXT NOT NULL,
    started_at   BIGINT NOT NULL,
    ended_at     BIGINT,
    message      TEXT,
    error        TEXT,
    owner_host   TEXT NOT NULL,     -- who runs it: host, boot, process, when that started
    owner_boot   TEXT NOT NULL,
    owner_pid    BIGINT NOT NULL,
    owner_start  TEXT NOT NULL,
    heartbeat_at BIGINT NOT NULL
  );
  CREATE INDEX runs_by_time ON runs (started_at);
  CREATE INDEX runs_by_state ON runs (state);

  CREATE TABLE nodes (
    run_id     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    node       TEXT NOT NULL,
    position   INTEGER NOT NULL,    -- in the order of the plan, from 1
    kind       TEXT NOT NULL,
    upstream   TEXT NOT NULL,       -- JSON array of names
    state      TEXT NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    started_at BIGINT,
    ended_at   BIGINT,
    row_count  BIGINT,
    bytes      BIGINT,
    message    TEXT,                -- why it is in this state
    PRIMARY KEY (run_id, node)
  );

  CREATE TABLE attempts (
    run_id        TEXT NOT NULL,
    node          TEXT NOT NULL,
    attempt       INTEGER NOT NULL,
    state         TEXT NOT NULL,
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
    seq     BIGINT NOT NULL,
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
  ]],
}
