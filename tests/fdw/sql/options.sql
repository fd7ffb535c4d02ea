-- Options by context: what is accepted, what is refused and with which advice.
SET client_min_messages = warning;

-- servers
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw;
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', endpoint 'b.example');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (hots 'a.example');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', dir 'x/');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', something_else 'x');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host ' a.example');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host '');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'ftp://a.example');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'user:password@a.example');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint 'oss-cn-test .aliyuncs.com');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', bucket 'x');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', protocol 'gopher');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', protocol 's3', signature 'v1');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host '127.0.0.1', addressing 'virtual');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', speed_time '0');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', speed_time '1.5');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', speed_time '5', oss_speed_time '5');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', "HOST" 'b.example');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', profile 'p', role_name 'r');
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'a.example', anonymous 'perhaps');
-- both spellings, and names in any case
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS ("Host" 'oss-cn-test.aliyuncs.com',
  bucket 'bucket', oss_connect_timeout '10', oss_dns_cache_timeout '60', oss_speed_limit '1024',
  oss_speed_time '15');
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint 'oss-cn-test-internal.aliyuncs.com',
  connect_timeout '10', dns_cache_timeout '60', speed_limit '1024', speed_time '90');
ALTER SERVER adbpg OPTIONS (ADD host 'a.example');
ALTER SERVER adbpg OPTIONS (DROP endpoint);
ALTER SERVER adbpg OPTIONS (SET speed_time 'x');
ALTER SERVER adbpg OPTIONS (DROP endpoint, ADD host 'a.example');
ALTER SERVER adbpg OPTIONS (ADD endpoint 'oss-cn-test.aliyuncs.com', DROP host);
-- the wrapper has none
ALTER FOREIGN DATA WRAPPER oss_fdw OPTIONS (ADD host 'a.example');

-- mappings
CREATE USER MAPPING FOR PUBLIC SERVER adbpg;
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id 'i');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id 'i', key 'k', password 'p');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id 'i', key 'k', bucket 'bucket');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id 'i', key 'k');

-- tables: one locator
CREATE FOREIGN TABLE t (a int) SERVER rds;
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', prefix 'p');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (filepath 'f', prefix 'p');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (prefix '/');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (filepath 'f/');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'oss://bucket/d/');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dri 'd/');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', host 'a.example');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', bucket 'No/bucket');
-- formats
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', format 'xml');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', format 'orc');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', format 'JSONLINE');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', filetype 'snappy');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', orc_stripe_size '64');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', newline 'NL');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', format 'text', delimiter '\t');
-- what COPY checks, in words of its own version
\set VERBOSITY sqlstate
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', delimiter '||');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', delimiter '"');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', format 'text', quote '"');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', escape 'ab');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', encoding 'klingon');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', null E'a\nb');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', format 'text', force_null 'true');
\set VERBOSITY default
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', header 'maybe');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', format 'text', force_quote_all 'true');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', force_not_null '"a');
-- numbers and what excludes each other
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', oss_flush_block_size '129');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', oss_file_max_size '7');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', num_parallel_worker '0');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', fragment_size '0');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', fragment_size '99999999999');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', oss_flush_block_size '32', oss_file_max_size '16');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', fragment_size '16', oss_file_max_size '16');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', compressiontype 'gzip', filetype 'plain');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', compressiontype 'bzip2');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', compressiontype 'gzip', compressionlevel '10');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', gzip_level '3');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', parse_errors '-1');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', parse_errors '5', segment_reject_limit '5');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', segment_reject_limit '0');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', segment_reject_limit '101%');
CREATE FOREIGN TABLE t (a int) SERVER rds OPTIONS (dir 'd/', segment_reject_limit '%');

-- all that goes together
CREATE FOREIGN TABLE everything (a int, b text) SERVER rds OPTIONS (dir 'd/', FORMAT 'CSV',
  DELIMITER '|', quote '''', escape '\', null 'NULL', header '1', encoding 'utf8', newline 'LF',
  force_not_null 'b', force_null 'a, b', force_quote_all 'true', parse_errors '100',
  log_errors 'true', compressiontype 'GZIP', compressionlevel '9', num_parallel_worker '8',
  oss_flush_block_size '128', oss_file_max_size '4000');
CREATE FOREIGN TABLE other (a int, b text) SERVER adbpg OPTIONS (prefix '/p', bucket 'bucket',
  format 'text', encoding 'latin1', segment_reject_limit '10%', log_errors 'on', filetype 'gzip',
  gzip_level '1', fragment_size '256');
ALTER FOREIGN TABLE other OPTIONS (ADD dir 'd/');
ALTER FOREIGN TABLE other OPTIONS (DROP prefix);
ALTER FOREIGN TABLE other OPTIONS (DROP prefix, ADD filepath 'f', SET filetype 'plain', DROP gzip_level);

-- columns
CREATE FOREIGN TABLE c (a int OPTIONS (force_null 'maybe')) SERVER rds OPTIONS (dir 'd/');
CREATE FOREIGN TABLE c (a int OPTIONS (column_name 'b')) SERVER rds OPTIONS (dir 'd/');
CREATE FOREIGN TABLE c (a int OPTIONS (dir 'd/')) SERVER rds OPTIONS (dir 'd/');
CREATE FOREIGN TABLE c (a int, b text OPTIONS (force_null 'true', force_not_null 'false')) SERVER rds
  OPTIONS (dir 'd/');

-- what only the use of a table can find
ALTER SERVER rds OPTIONS (DROP bucket);
SELECT * FROM everything;
ALTER SERVER rds OPTIONS (ADD bucket 'bucket');
ALTER FOREIGN TABLE everything OPTIONS (SET force_not_null 'b, nosuch');
SELECT * FROM everything;

DROP SERVER rds CASCADE;
DROP SERVER adbpg CASCADE;
