-- Rows that cannot be parsed are skipped, up to a limit, and are told about.
\set endpoint `echo $TM_OSSD`
\set id `echo $TM_OSSD_ID`
\set key `echo $TM_OSSD_SECRET`
SET client_min_messages = warning;
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');
SET client_min_messages = notice;
SET bytea_output = hex;
SET timezone = 'UTC';

-- RDS: so many, and no more
CREATE FOREIGN TABLE strict (id int, name text, amount numeric) SERVER rds
  OPTIONS (filepath 'data/reject_rows.csv', format 'csv', encoding 'utf8');
CREATE FOREIGN TABLE six (id int, name text, amount numeric) SERVER rds
  OPTIONS (filepath 'data/reject_rows.csv', format 'csv', encoding 'utf8', parse_errors '6');
CREATE FOREIGN TABLE five (id int, name text, amount numeric) SERVER rds
  OPTIONS (filepath 'data/reject_rows.csv', format 'csv', encoding 'utf8', parse_errors '5');
SELECT * FROM strict;
SELECT * FROM six;
SELECT * FROM five;
-- bad rows do not depend on which columns are asked for
SELECT count(*) FROM six;
SELECT id FROM six WHERE id > 5;
-- a row that LIMIT does not reach is not counted
SELECT id FROM five LIMIT 3;

-- ADBPG: the same with a log
CREATE FOREIGN TABLE logged (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_rows', format 'csv', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT * FROM logged;
SELECT cmdtime > now() - interval '1 minute' AS recent, relname, filename, linenum, bytenum,
       errmsg, rawdata, rawbytes
  FROM gp_read_error_log('logged');
CREATE FOREIGN TABLE limited (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_rows', format 'csv', encoding 'utf8',
           segment_reject_limit '2', log_errors 'true');
SELECT * FROM limited;
-- what led to the end is in the log
SELECT linenum, errmsg FROM gp_read_error_log('limited');

-- line ends, as the first line has them; a quote that is not closed
CREATE FOREIGN TABLE ends (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_ends', format 'csv', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT * FROM ends;
SELECT linenum, bytenum, errmsg, rawdata FROM gp_read_error_log('ends');

-- a header; the end marker
CREATE FOREIGN TABLE header (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_header', format 'csv', header 'true', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT * FROM header;
SELECT linenum, bytenum, errmsg, rawdata FROM gp_read_error_log('header');

-- text
CREATE FOREIGN TABLE plain (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_text', format 'text', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT * FROM plain;
SELECT linenum, bytenum, errmsg, rawdata FROM gp_read_error_log('plain');

-- an encoding that has bytes of ASCII inside characters
CREATE FOREIGN TABLE gbk (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_gbk', format 'csv', encoding 'gbk',
           segment_reject_limit '10', log_errors 'true');
SELECT id, name = '甲' AS jia, length(name), amount FROM gbk;
SELECT linenum, bytenum, errmsg, rawdata = '42,乙\,x' AS raw, rawbytes FROM gp_read_error_log('gbk');

-- the log keeps 8 KiB of a row, and whole characters
CREATE FOREIGN TABLE wide (id int, name text) SERVER adbpg
  OPTIONS (prefix 'reject/wide', format 'csv', encoding 'sql_ascii',
           segment_reject_limit '10', log_errors 'true');
\! (printf 'xy,'; for i in $(seq 1000); do printf '€€€'; done; echo) | sh -c "exec $TM_BIN exec tests/fdw/put.lua reject/wide.csv"
SELECT * FROM wide;
SELECT length(rawdata), octet_length(rawdata), rawbytes FROM gp_read_error_log('wide');
ALTER FOREIGN TABLE wide OPTIONS (SET encoding 'latin1');
SELECT * FROM wide;
SELECT length(rawdata), octet_length(rawdata), rawbytes FROM gp_read_error_log('wide') OFFSET 1;

-- per cent: of the rows so far, once there are more than 300
CREATE FOREIGN TABLE eleven (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_percent', format 'csv', segment_reject_limit '11%');
CREATE FOREIGN TABLE nine (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_percent', format 'csv', segment_reject_limit '9%');
SELECT count(*), sum(amount) FROM eleven;
SELECT count(*), sum(amount) FROM nine;

-- several objects count together
CREATE FOREIGN TABLE several (id int, name text, amount text) SERVER rds
  OPTIONS (prefix 'data/reject_', format 'csv', encoding 'sql_ascii', parse_errors '7');
SELECT count(*) FROM several;

-- ANALYZE skips them as well
ANALYZE logged;
SELECT reltuples FROM pg_class WHERE relname = 'logged';

-- domains are of the data too; other errors are not tolerated
CREATE DOMAIN small AS int CHECK (VALUE < 10);
CREATE DOMAIN needed AS int NOT NULL;
CREATE FOREIGN TABLE domains (id small, name text, amount text) SERVER adbpg
  OPTIONS (prefix 'data/reject_rows', format 'csv', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT id, amount FROM domains;
SELECT linenum, errmsg FROM gp_read_error_log('domains');
CREATE FUNCTION divide(int) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN RETURN 1 / ($1 - 5) IS NOT NULL; END $$;
CREATE DOMAIN divided AS int CHECK (divide(VALUE));
CREATE FOREIGN TABLE functions (id divided, name text, amount text) SERVER adbpg
  OPTIONS (prefix 'data/reject_rows', format 'csv', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT id FROM functions;
SELECT linenum, errmsg FROM gp_read_error_log('functions');
CREATE FUNCTION missing(int) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN RETURN (SELECT true FROM no_such_table); END $$;
CREATE DOMAIN lost AS int CHECK (missing(VALUE));
CREATE FOREIGN TABLE others (id lost, name text, amount text) SERVER adbpg
  OPTIONS (prefix 'data/reject_rows', format 'csv', encoding 'utf8', segment_reject_limit '10');
\set VERBOSITY sqlstate
SELECT id FROM others;
SELECT * FROM five;
\set VERBOSITY default
\setenv put 'exec "$TM_BIN" exec tests/fdw/put.lua'
CREATE FUNCTION fails(text) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN IF $1 <> 'ok' THEN RAISE EXCEPTION 'as %', $1 USING ERRCODE = $1; END IF; RETURN true; END $$;
CREATE DOMAIN code AS text CHECK (fails(VALUE));
CREATE FOREIGN TABLE codes (code code) SERVER adbpg
  OPTIONS (prefix 'reject/codes', format 'csv', encoding 'utf8', segment_reject_limit '10', log_errors 'true');
\! printf 'ok\n22000\n22P02\n23514\n23502\nok\n' | sh -c "$put reject/codes.csv"
SELECT * FROM codes;
SELECT linenum, errmsg FROM gp_read_error_log('codes');
\! printf 'ok\n22000\n53200\n' | sh -c "$put reject/codes.csv"
SELECT * FROM codes;
\! printf 'ok\n57014\n' | sh -c "$put reject/codes.csv"
SELECT * FROM codes;
\! printf 'ok\n23505\n' | sh -c "$put reject/codes.csv"
SELECT * FROM codes;
-- the transaction goes on as if nothing had been, also after an error that plpgsql catches
BEGIN;
CREATE TABLE kept AS SELECT 1 AS a;
DO $$ BEGIN
  PERFORM * FROM codes;
EXCEPTION WHEN unique_violation THEN
  RAISE NOTICE 'caught: %', SQLERRM;
END $$;
INSERT INTO kept VALUES (2);
COMMIT;
SELECT * FROM kept;

-- cursors, savepoints, plpgsql, read-only transactions
BEGIN READ ONLY;
DECLARE c CURSOR FOR SELECT id FROM logged;
FETCH 2 FROM c;
SAVEPOINT s;
FETCH 1 FROM c;
ROLLBACK TO s;
FETCH ALL FROM c;
COMMIT;
CREATE FUNCTION total(OUT rows int, OUT failed bool) LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
  rows := 0;
  failed := false;
  FOR r IN SELECT * FROM six LOOP
    BEGIN
      rows := rows + 1;
      PERFORM 1 / (r.id - 5);
    EXCEPTION WHEN division_by_zero THEN
      failed := true;
    END;
  END LOOP;
END $$;
SELECT * FROM total();
DO $$ BEGIN
  PERFORM * FROM five;
EXCEPTION WHEN bad_copy_file_format THEN
  RAISE NOTICE 'caught: %', SQLERRM;
END $$;
-- two scans at once, and one again and again: told once each, logged once
SELECT gp_truncate_error_log('logged');
SET enable_material = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT count(*) FROM six a, logged b WHERE a.id <> b.id;
RESET ALL;
SELECT count(*) FROM gp_read_error_log('logged');
-- into a table, in one transaction with what it reads
CREATE TABLE copied AS SELECT * FROM six;
INSERT INTO copied SELECT * FROM six;
SELECT count(*), count(DISTINCT xmin::text), count(DISTINCT cmin::text) FROM copied;

-- an object that is broken is no bad row
CREATE FOREIGN TABLE broken (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'reject/broken', format 'csv', filetype 'gzip', encoding 'utf8', segment_reject_limit '10');
\! sh -c "$put reject/broken.gz gzip 60" <tests/fdw/data/reject_rows.csv
SELECT * FROM broken;
SET statement_timeout = '2s';
CREATE FUNCTION waits(int) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_sleep(CASE $1 WHEN 5 THEN 60 ELSE 0 END); RETURN true; END $$;
CREATE DOMAIN waiting AS int CHECK (waits(VALUE));
CREATE FOREIGN TABLE slow (id waiting, name text, amount numeric) SERVER adbpg
  OPTIONS (prefix 'data/reject_rows', format 'csv', encoding 'utf8', segment_reject_limit '10');
SELECT * FROM slow;
RESET statement_timeout;
SELECT id FROM six;

-- from one foreign table into another
\! printf '0,zero,0\n' | sh -c "$put reject/out/0.csv"
CREATE FOREIGN TABLE written (id int, name text, amount numeric) SERVER adbpg
  OPTIONS (dir 'reject/out/', format 'csv', segment_reject_limit '10');
BEGIN;
SAVEPOINT s;
INSERT INTO written SELECT * FROM six;
ROLLBACK TO s;
INSERT INTO written SELECT * FROM six WHERE id > 5;
INSERT INTO written SELECT id + 100, name, amount FROM logged WHERE id < 6;
COMMIT;
SELECT * FROM written ORDER BY id;

-- EXPLAIN ANALYZE counts them over all runs of a node
CREATE FUNCTION rejected(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
    IF line LIKE '%Rejected%' THEN RETURN NEXT trim(line); END IF;
  END LOOP;
END $$;
SELECT * FROM rejected('SELECT * FROM six');
SELECT * FROM rejected('SELECT * FROM six LIMIT 2');
SET enable_material = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT * FROM rejected('SELECT * FROM six a JOIN logged b ON a.id <> b.id');
RESET ALL;

-- no parallel workers beside a tolerant table
CREATE TABLE numbers AS SELECT generate_series(1, 1000) AS id;
ANALYZE numbers;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET enable_material = off;
CREATE FUNCTION workers(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
    IF line LIKE '%Workers%' THEN RETURN NEXT trim(line); END IF;
  END LOOP;
END $$;
SELECT * FROM workers($$ SELECT count(*) FROM numbers JOIN six USING (id) $$);
SELECT count(*) FROM numbers JOIN six USING (id);
