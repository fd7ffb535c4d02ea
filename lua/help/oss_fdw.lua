return [==[
# oss_fdw

Foreign tables on objects of an OSS or S3 bucket, for a stock PostgreSQL 13 to 17. It takes the SQL of Alibaba Cloud's
two extensions of this name, that of ApsaraDB RDS for PostgreSQL and that of AnalyticDB for PostgreSQL, as it stands.

    make install-fdw                    # for the PostgreSQL of pg_config; PG_CONFIG=/path/to/pg_config for another

    CREATE EXTENSION oss_fdw;                           -- a superuser; then, for who makes servers:
    GRANT USAGE ON FOREIGN DATA WRAPPER oss_fdw TO etl;
    CREATE SERVER lake FOREIGN DATA WRAPPER oss_fdw
      OPTIONS (endpoint 'oss-cn-hangzhou-internal.aliyuncs.com', bucket 'my-bucket');
    CREATE USER MAPPING FOR CURRENT_USER SERVER lake OPTIONS (id '...', key '...');
    CREATE FOREIGN TABLE orders_2026 (id bigint, amount numeric, at timestamptz) SERVER lake
      OPTIONS (dir 'orders/2026/', format 'csv', filetype 'gzip');

    INSERT INTO orders_2026 SELECT * FROM orders;       -- objects appear when the transaction commits
    SELECT count(*) FROM orders_2026;                   -- every object of the folder, in order of keys
    EXPLAIN SELECT * FROM orders_2026;                  -- which objects, how many bytes

A server with `host` follows the rules of RDS, one with `endpoint` those of AnalyticDB: names of objects that are
written, what `filepath` matches, EXPLAIN.

## Options

    server      host or endpoint      [http://|https://]host[:port]; https unless it says http
                bucket                of all its tables; a table may name another
                id, key               accepted with a warning: everybody can read them. See Secrets
                oss_connect_timeout, connect_timeout        one of them; to connect (10 s)
                oss_dns_cache_timeout, dns_cache_timeout    how long an address is remembered (60 s)
                oss_speed_limit, speed_limit                slower than so many byte/s (1024) ...
                oss_speed_time, speed_time                  ... for so long ends one try of up to 5 (15 s; 90 s with
                                                            endpoint)
                protocol              oss or s3 (default: s3 if the endpoint has amazonaws.com in it, else oss)
                region, addressing, signature, ca_file, proxy      as in `tidemill help connections`; signature is v1
                                      for OSS when no region is to be had
                profile, role_name, anonymous                      keys from elsewhere, or none
    mapping     id, key
    table       dir | prefix | filepath     one of them, no wildcards; dir ends in "/" and is not recursive
                format                csv (default) or text
                delimiter, quote, escape, null, header                 as COPY's; a tab is E'\t', header a boolean
                encoding              default: the database's (host), the client's (endpoint)
                newline               lf, crlf, cr: what rows written end in; reading finds out
                force_not_null, force_null   true: all columns; or some, 'id, name'
                compressiontype or filetype            none, plain, gzip, zstd; compressionlevel (6) or
                                      gzip_level (1), 1 to 9; num_parallel_worker (3) threads
                oss_file_max_size (1024 MB, host), fragment_size (256 MB, endpoint)    a new object from here on
                oss_flush_block_size (8 MB)            parts of an upload
                force_quote_all       writing csv
                parse_errors N (host), segment_reject_limit 'N' or 'N%' (endpoint)     skip bad rows, up to N
                log_errors            keep them for gp_read_error_log
    column      force_not_null, force_null

A name that is none of these is an error that says which one was meant. Formats orc (with its
orc_stripe_size), parquet, avro and json, and the file type snappy, are refused when the table is made.

## Secrets

Options of servers are readable by every user of the database (\des+), those of user mappings by their user, the
owner of the server (FOR PUBLIC) and superusers. So, best first:

1. No key in the database: `profile` (a section of ~/.ossutilconfig or ~/.aws/credentials of the server's operating
   system user), `role_name` (of the instance), or no key at all: the environment. Only for servers whose owner is a
   superuser or a member of pg_read_server_files.
2. CREATE USER MAPPING FOR role ... OPTIONS (id ..., key ...).
3. The form of RDS, id and key on the server, with `session_preload_libraries = 'oss_fdw'` in postgresql.conf: then
   CREATE SERVER and ALTER SERVER put them into a user mapping for PUBLIC instead, and say so; DROP SERVER drops it.

A mapping of the user, else of PUBLIC, goes before keys of the server. Keys are in no message, EXPLAIN or view of
ours. With the library preloaded (session_preload_libraries or shared_preload_libraries) they are struck out of the
text of CREATE and ALTER of servers and mappings too: in pg_stat_activity, in pg_stat_statements (named before
oss_fdw) and in the STATEMENT of errors. What log_statement and log_min_duration_statement log is the server's own:
give keys in a session with `SET log_statement = 'none'`. pg_dump writes them as they are. The keys used are those of
the user whose rights count: in a view, its owner. `oss_fdw.allowed_endpoints` limits where servers may connect to.
USAGE on a server lets its holder make tables on all that its keys may reach, in other buckets too.

## Reading

The parser is COPY's own. Nothing matches: a WARNING and no rows. Keys that end in "/" and empty objects are passed
over. An object replaced while it is read is an error, and so is a compressed one whose table says none. Every error
in a row names the object and the line; a value of a column that a statement does not need is not looked at, so
count(*) passes over bad ones (not in a table that skips bad rows). `ANALYZE` samples at most oss_fdw.analyze_size;
LIMIT, cancel and statement_timeout end transfers at once. `filepath 'a'` matches a, a.1, a.2, ... up to the first gap
with `host`, and only a with `endpoint`.

## Writing

INSERT and COPY FROM send multipart uploads, which are completed when the transaction commits; rolled back, cancelled
or killed, it leaves no object. Small objects are sent as a whole then, so it may be COMMIT that fails. Savepoints
count; PREPARE TRANSACTION is refused. Rows are not visible before the commit, to the transaction itself neither.
UPDATE, DELETE and TRUNCATE are refused. Each statement makes objects of its own, never touches others, and none at
all for no rows. Values are as COPY TO writes them with ISO dates, whatever the session has; generated columns have no
field, as there; the key of a partition has one. PostgreSQL checks NOT NULL and CHECK of no foreign table. Rows routed
to several foreign partitions at once share oss_fdw.write_buffer. A name holds the number of its transaction:

    dir/table_20260102030405_N_seg-1_0.csv.gz        endpoint; then _1, _2
    dir/table_820594800000000_N                      host; then .1, .2

With a prefix, it stands for dir/table (endpoint) or for dir/ (host).

What a crash leaves (uploads; objects of a transaction that had not ended) is told by such names: scans of the same
cluster skip it, and its next write to the place removes it. `oss_fdw.sweep` is all, uploads or off; by hand, also
for uploads of unknown origin that are older than a day:

    SELECT * FROM oss_fdw_sweep('orders_2026', '1 day');

Other clusters, and other programs, see such an object until then: a commit of several objects is not one instant for
them. A lifecycle rule of the bucket that ends old multipart uploads is a good net.

To a standby, and after a failover, all objects are a stranger's: seen and never swept; for the number also stands for
the cluster's system identifier, timeline, host name and data directory. A copy of a data directory that runs under
the same host name and path must not write to the original's places. A COMMIT waits for its objects (statement_timeout
does not count there, cancelling does), and for its WAL even with synchronous_commit off.

## Functions and settings

    oss_fdw_list_file(relname, schema = 'public')    name, size of the objects that match now
    get_oss_table_meta(ft)                           name, size, etag, modified
    gp_read_error_log(ft), gp_truncate_error_log(ft) rows that were skipped
    oss_fdw_sweep(ft, older_than)                    see above

    oss_fdw.rds_read_one_file   tables of a `host` match this one of their objects alone
    oss_fdw.allowed_endpoints   host[:port] or *.domain[:port], separated by commas (superusers); empty: any
    oss_fdw.sweep               all
    oss_fdw.prefetch            24 MB: what a scan reads ahead
    oss_fdw.write_buffer        24 MB: parts in flight of a statement
    oss_fdw.analyze_size        256 MB
    oss_fdw.error_log_size      16 MB of skipped rows a table (superusers)

In pg_stat_activity a session that waits for its store has the wait_event Extension (OssFdwTransfer from 17 on).

## What is not as in Alibaba's

- There, objects are seen while a statement writes them and stay after ROLLBACK; here they appear at commit.
- RDS encrypts the keys of a server in its catalogue; here see Secrets. RDS has a white list of endpoints; here any is
  allowed unless oss_fdw.allowed_endpoints is set.
- protocol, region, addressing, signature, ca_file, proxy, profile, role_name, anonymous and zstd are additions.
- Greenplum's grammar (UNLOAD, PARTITION BY LIST of files, external tables) and the formats orc, parquet, avro and
  json are not here. A statement runs in one process, without segments or parallel workers; its transfers are threads.
- `oss_flush_block_size` is 8 MB rather than 32, and no limit to the length of a row.
- `'N%'` counts from 300 rows on, as in Greenplum.
]==]
