-- The log of rejected rows: whose it is, how long it stays, what damage it survives.
\set endpoint `echo $TM_OSSD`
\set id `echo $TM_OSSD_ID`
\set key `echo $TM_OSSD_SECRET`
SET client_min_messages = warning;
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (id :'id', key :'key');
CREATE FOREIGN TABLE ft (id int, name text, amount numeric) SERVER s
  OPTIONS (prefix 'data/reject_rows', format 'csv', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT count(*) FROM gp_read_error_log('ft');
SELECT count(*) FROM ft;
SELECT count(*) FROM gp_read_error_log('ft');
-- it does not depend on the transaction
BEGIN;
SELECT count(*) FROM ft;
ROLLBACK;
SELECT count(*) FROM gp_read_error_log('public.ft');
-- without log_errors nothing is kept
ALTER FOREIGN TABLE ft OPTIONS (SET log_errors 'false');
SELECT count(*) FROM ft;
SELECT count(*) FROM gp_read_error_log('ft');
ALTER FOREIGN TABLE ft OPTIONS (SET log_errors 'true');

-- as in Greenplum a table that does not exist has no log
SELECT count(*) FROM gp_read_error_log('no_such');
SELECT gp_truncate_error_log('no_such'), gp_truncate_error_log(NULL);

-- rights: SELECT to read it, the table's owner removes it
CREATE ROLE regress_errlog;
SET ROLE regress_errlog;
SELECT count(*) FROM gp_read_error_log('ft');
SELECT gp_truncate_error_log('ft');
SELECT gp_truncate_error_log('*');
SELECT gp_truncate_error_log('*.*');
RESET ROLE;
GRANT SELECT ON ft TO regress_errlog;
SET ROLE regress_errlog;
SELECT count(*) FROM gp_read_error_log('ft');
SELECT gp_truncate_error_log('ft');
RESET ROLE;
ALTER FOREIGN TABLE ft OWNER TO regress_errlog;
SET ROLE regress_errlog;
SELECT gp_truncate_error_log('ft');
SELECT count(*) FROM gp_read_error_log('ft');
RESET ROLE;
ALTER FOREIGN TABLE ft OWNER TO CURRENT_USER;
DROP OWNED BY regress_errlog;
DROP ROLE regress_errlog;

-- a torn end, as a crash leaves it, costs that row and no other
SELECT count(*) FROM ft;
SELECT 'oss_fdw_errlog/' || oid || '_' || 'ft'::regclass::oid AS file
  FROM pg_database WHERE datname = current_database() \gset
SELECT lo_from_bytea(0, substring(content FROM 1 FOR length(content) - 20)) AS torn
  FROM pg_read_binary_file(:'file') AS content \gset
SELECT lo_export(:torn, :'file'), lo_unlink(:torn);
SELECT count(*) FROM gp_read_error_log('ft');
SELECT count(*) FROM ft;
SELECT count(*), count(DISTINCT linenum) FROM gp_read_error_log('ft');
-- so does a row that was changed, and what is no row at all
SELECT lo_from_bytea(0, overlay(content PLACING 'Z' FROM 60)) AS changed
  FROM pg_read_binary_file(:'file') AS content \gset
SELECT lo_export(:changed, :'file'), lo_unlink(:changed);
SELECT count(*) FROM gp_read_error_log('ft');
SELECT lo_from_bytea(0, ''::bytea || decode(repeat('00', 200000), 'hex') || E'\n' || content) AS zeros
  FROM pg_read_binary_file(:'file') AS content \gset
SELECT lo_export(:zeros, :'file'), lo_unlink(:zeros);
SELECT count(*) FROM gp_read_error_log('ft');

-- another table that got its place does not show its rows
CREATE FOREIGN TABLE other (id int, name text, amount numeric) SERVER s
  OPTIONS (prefix 'data/reject_rows', format 'csv', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT lo_import(:'file') AS copy,
       regexp_replace(:'file', '[0-9]+$', 'other'::regclass::oid::text) AS of_other \gset
SELECT lo_export(:copy, :'of_other'), lo_unlink(:copy);
SELECT count(*) FROM gp_read_error_log('other');
SELECT count(*) FROM other;
SELECT count(*), count(DISTINCT relname) FROM gp_read_error_log('other');

-- all of the database
SELECT gp_truncate_error_log('*');
SELECT count(*) FROM gp_read_error_log('ft');
SELECT count(*) FROM gp_read_error_log('other');

-- the oldest rows go
SET oss_fdw.error_log_size = '1MB';
CREATE FOREIGN TABLE many (id int, name text, amount numeric) SERVER s
  OPTIONS (prefix 'data/reject_percent', format 'csv', segment_reject_limit '200', log_errors 'true');
DO $$ BEGIN
  FOR i IN 1..200 LOOP
    PERFORM count(*) FROM many;
  END LOOP;
END $$;
SELECT 'oss_fdw_errlog/' || oid || '_' || 'many'::regclass::oid AS file
  FROM pg_database WHERE datname = current_database() \gset
SELECT (pg_stat_file(:'file')).size + (pg_stat_file(:'file' || '.1')).size BETWEEN 500000 AND 1048576 AS bounded;
SELECT count(*) BETWEEN 2000 AND 12000 AS some, max(cmdtime) > now() - interval '1 hour' AS new,
       count(DISTINCT linenum) = 100 AS whole
  FROM gp_read_error_log('many');

-- logs of dropped tables go when they are old and a new log begins
DROP FOREIGN TABLE many;
SELECT gp_truncate_error_log('ft');
SELECT count(*) FROM ft;
SELECT (pg_stat_file(:'file', true)).size > 0 AS still_there;
SELECT current_setting('data_directory') || '/' || :'file' AS path \gset
\setenv path :path
\! touch -d '2 days ago' "$path" "$path.1"
SELECT gp_truncate_error_log('ft');
SELECT count(*) FROM ft;
SELECT (pg_stat_file(:'file', true)).size, (pg_stat_file(:'file' || '.1', true)).size;

-- any text, any bytes
\setenv put 'exec "$TM_BIN" exec tests/fdw/put.lua'
\! printf 'a\\\\b|\\t\tc\n1\0002\n\r\n' | sh -c "$put errlog/odd.txt"
CREATE FOREIGN TABLE "Odd" (id int) SERVER s
  OPTIONS (prefix 'errlog/odd', format 'text', delimiter '|', encoding 'utf8',
           segment_reject_limit '10', log_errors 'true');
SELECT * FROM "Odd";
SELECT relname, linenum, bytenum, errmsg, rawdata, rawbytes FROM gp_read_error_log('"Odd"');
