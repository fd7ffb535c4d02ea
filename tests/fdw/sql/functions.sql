-- What a table matches, as a function of each dialect.
\set endpoint `echo $TM_OSSD`
\set id `echo $TM_OSSD_ID`
\set key `echo $TM_OSSD_SECRET`
SET client_min_messages = warning;
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');
CREATE FOREIGN TABLE ft (a text) SERVER rds OPTIONS (prefix 'data/reject_', format 'csv');
CREATE SCHEMA "Lake";
CREATE FOREIGN TABLE "Lake"."Ft" (a text) SERVER adbpg
  OPTIONS (bucket 'fdw-regress', prefix 'data/reject_t', format 'csv');
CREATE FOREIGN TABLE nothing (a text) SERVER rds OPTIONS (dir 'nowhere/', format 'csv');
CREATE TABLE local (a text);
SET client_min_messages = notice;

SELECT * FROM oss_fdw_list_file('ft');
SELECT * FROM oss_fdw_list_file('ft', 'public') WHERE size > 100;
SELECT name, size FROM oss_fdw_list_file(relname => 'Ft', schema => 'Lake');
SELECT * FROM oss_fdw_list_file('nothing');
SELECT name, size, etag ~ '^[0-9A-F]{32}$' AS etag, modified > now() - interval '1 day' AS recent
  FROM get_oss_table_meta('"Lake"."Ft"');
SELECT count(*) FROM get_oss_table_meta('ft');
-- the one object of the session
SET oss_fdw.rds_read_one_file = 'data/reject_text.txt';
SELECT * FROM oss_fdw_list_file('ft');
SELECT count(*) FROM ft;
RESET oss_fdw.rds_read_one_file;

SELECT * FROM oss_fdw_list_file('no_such');
SELECT * FROM oss_fdw_list_file('ft', 'no_such');
SELECT * FROM oss_fdw_list_file('local');
SELECT * FROM oss_fdw_list_file(NULL);
SELECT * FROM get_oss_table_meta('no_such');
SELECT * FROM get_oss_table_meta('local');
SELECT * FROM get_oss_table_meta('a.b.c.d');

-- reading the table is the right that it takes
CREATE ROLE regress_functions;
SET ROLE regress_functions;
SELECT * FROM oss_fdw_list_file('ft');
SELECT * FROM get_oss_table_meta('ft');
SELECT * FROM oss_fdw_list_file('Ft', 'Lake');
RESET ROLE;
GRANT SELECT ON ft TO regress_functions;
SET ROLE regress_functions;
SELECT count(*) FROM oss_fdw_list_file('ft');
RESET ROLE;
DROP OWNED BY regress_functions;
DROP ROLE regress_functions;
