return [[
# oss_fdw: object storage as foreign tables of PostgreSQL

An extension for PostgreSQL 13 to 17 that runs the SQL of the `oss_fdw` of ApsaraDB RDS and of
AnalyticDB for PostgreSQL, on OSS and on any store that speaks S3.

    make install-fdw                    -- into the PostgreSQL that pg_config names
    CREATE EXTENSION oss_fdw;
    CREATE SERVER store FOREIGN DATA WRAPPER oss_fdw
      OPTIONS (endpoint 'oss-cn-hangzhou-internal.aliyuncs.com', bucket 'archive');
    CREATE USER MAPPING FOR PUBLIC SERVER store OPTIONS (id '...', key '...');
    CREATE FOREIGN TABLE orders_2026 (id int, at date) SERVER store
      OPTIONS (dir 'orders/2026/', format 'csv', filetype 'gzip');
    INSERT INTO orders_2026 SELECT id, at FROM orders WHERE at >= '2026-01-01';
    SELECT count(*) FROM orders_2026;

## Servers and keys

    host | endpoint     one of them: host[:port], perhaps with http:// or https:// (https).
                        `host` makes it a server as of RDS, `endpoint` one as of AnalyticDB;
                        they name their objects, explain and read a `filepath` as there
    bucket              of all its tables that name none
    protocol            oss or s3 (s3 at amazonaws.com, else oss)
    region, addressing (auto, virtual, path, cname), signature (v4, v1)
                        where the endpoint does not tell. Of OSS without any region: v1
    connect_timeout | oss_connect_timeout           seconds (10)
    dns_cache_timeout | oss_dns_cache_timeout       seconds (60)
    speed_limit | oss_speed_limit                   bytes a second (1024): slower than that ...
    speed_time | oss_speed_time                     ... for so many seconds is an error
                        (15 with `host`, 90 with `endpoint`)
    id, key             work here as on RDS, but everybody can read a server's options: they
                        belong into a user mapping. So CREATE and ALTER SERVER warn
    anonymous           true: requests are not signed
    profile             a section of ~/.ossutilconfig, ~/.aliyun/config.json, ~/.aws/...
    role_name           the keys of the instance's role, asked of the metadata service
    ca_file, proxy      a PEM file of authorities; a proxy's URL

The keys of a scan are those of the user mapping of the user whose rights count (a view's owner
for a view), else of the mapping for PUBLIC, else of the server, else those that profile,
role_name or the environment of the PostgreSQL server give. profile, role_name, ca_file, proxy
and the environment are for servers whose owner is a superuser or in pg_read_server_files.

With the library in session_preload_libraries (or shared_preload_libraries) id and key of a
server are put into the mapping for PUBLIC instead, and struck out of pg_stat_activity,
of pg_stat_statements (named before oss_fdw) and of the STATEMENT of errors. What log_statement
or log_min_duration_statement log is out of reach: SET them off for that statement.

    ALTER DATABASE d SET session_preload_libraries = 'oss_fdw';

## Tables

    dir                 objects right below, not deeper; must end in '/'
    prefix              objects whose key begins so
    filepath            this object; with `host` also KEY.1, KEY.2 ... up to the first gap;
                        cannot be written
    bucket              in place of the server's
    format              csv (the default) or text, as COPY has them (orc and its orc_stripe_size,
                        parquet, avro, json are not supported); with COPY's delimiter,
                        quote, escape, null, header, encoding (of the database with `host`, of
                        the client with `endpoint`), force_quote_all
    force_not_null, force_null
                        true for all columns, or names of some: 'id, name'; or on a column
    newline             lf, crlf or cr: what rows written end in. Reading finds out
    compressiontype | filetype
                        none (plain), gzip, zstd; level by compressionlevel (6) or gzip_level
                        (1), threads by num_parallel_worker (3)
    oss_file_max_size | fragment_size
                        MB after which the next object begins (1024 with `host`, else 256)
    oss_flush_block_size
                        MB of one part of an upload (8)
    parse_errors        so many rows that cannot be read are skipped; one more is an error
    segment_reject_limit
                        the same, '10'; or a share of the rows read so far, '10%'
    log_errors          keeps what was skipped, for gp_read_error_log

Exactly one of dir, prefix, filepath. Empty objects and keys that end in '/' are skipped; nothing
matched is a WARNING and no rows. Rows come in the order of keys, but promise nobody that.

## Writing

INSERT and COPY FROM write new objects, never over others, and always more: run twice they double
the data. UPDATE, DELETE and TRUNCATE are refused. Values are written as COPY TO writes them, with
ISO dates whatever the session has.

Objects appear when the transaction commits, and not before to anybody, the transaction itself
included; after a rollback, also to a savepoint, there are none. PREPARE TRANSACTION is refused.
A commit that fails between two objects deletes those it has made; what a killed server leaves is
not seen by scans of this cluster and is removed by the next INSERT there, or by oss_fdw_sweep.
Other readers of the bucket may see it until then. A lifecycle rule that ends unfinished uploads
is good to have all the same.

## Functions and settings

    oss_fdw_list_file(table, schema DEFAULT 'public')   name and size of what it matches now
    get_oss_table_meta('schema.table')                  with etag and time
    gp_read_error_log(table), gp_truncate_error_log(table)
    oss_fdw_sweep(table, older_than DEFAULT '1 day')    removes what aborts left, and unfinished
                                                        uploads of others that are older

    oss_fdw.rds_read_one_file   while set, the one of their objects that tables of a `host` match
    oss_fdw.allowed_endpoints   host[:port] or *.domain[:port], by commas; set by superusers;
                                empty: any endpoint
    oss_fdw.sweep               what INSERT removes of aborts: all, uploads, off
    oss_fdw.prefetch            read ahead by a scan (24MB)
    oss_fdw.write_buffer        parts in flight of a statement (24MB)
    oss_fdw.analyze_size        read by ANALYZE at most (256MB)
    oss_fdw.error_log_size      kept of one table (16MB)

ANALYZE a foreign table for good plans; autovacuum does not. A scan is never parallel; several
ranges are fetched ahead all the same.
]]
