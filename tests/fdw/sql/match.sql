-- Which objects a table matches: dir, prefix and filepath, in either dialect.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
\setenv put 'exec "$TM_BIN" exec tests/fdw/put.lua'
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');
\! for k in f f.1 f.2 f.3 f.5 f.10 f.x fg sub/f sub/deep/f; do echo $k | sh -c "$put match/$k"; done
\! printf '' | sh -c "$put match/"
\! printf '' | sh -c "$put match/sub/"
\! echo a marker with a body | sh -c "$put match/marker/"
\! printf '' | sh -c "$put match/empty"

-- dir: what lies directly in it, without markers and empty objects, in byte order of the keys.
CREATE FOREIGN TABLE r (key text) SERVER rds OPTIONS (dir 'match/', format 'csv');
CREATE FOREIGN TABLE a (key text) SERVER adbpg OPTIONS (dir 'match/', format 'csv');
SELECT string_agg(key, ' ') FROM r;
SELECT string_agg(key, ' ') FROM a;
ALTER FOREIGN TABLE r OPTIONS (SET dir '/match/sub/');
SELECT string_agg(key, ' ') FROM r;

-- prefix: every key that begins with it, in folders too.
ALTER FOREIGN TABLE r OPTIONS (DROP dir, ADD prefix 'match/f');
ALTER FOREIGN TABLE a OPTIONS (DROP dir, ADD prefix '/match/s');
SELECT string_agg(key, ' ') FROM r;
SELECT string_agg(key, ' ') FROM a;

-- filepath: RDS reads f, f.1, f.2 ... up to the first gap, ADBPG that one object.
ALTER FOREIGN TABLE r OPTIONS (DROP prefix, ADD filepath 'match/f');
ALTER FOREIGN TABLE a OPTIONS (DROP prefix, ADD filepath 'match/f');
SELECT string_agg(key, ' ') FROM r;
SELECT string_agg(key, ' ') FROM a;
-- The name itself may be missing.
\! echo h.1 | sh -c "$put match/h.1"
ALTER FOREIGN TABLE r OPTIONS (SET filepath 'match/h');
ALTER FOREIGN TABLE a OPTIONS (SET filepath 'match/h');
SELECT string_agg(key, ' ') FROM r;
SELECT string_agg(key, ' ') FROM a;

-- Nothing matched: a warning, and no rows.
ALTER FOREIGN TABLE r OPTIONS (DROP filepath, ADD dir 'match/nowhere/');
SELECT count(*) FROM r;
ALTER FOREIGN TABLE r OPTIONS (SET dir 'match/marker/');
SELECT count(*) FROM r;
ALTER FOREIGN TABLE r OPTIONS (DROP dir, ADD prefix 'match/e');
SELECT * FROM r;
SELECT count(*) FROM r a, r b;

-- The setting of RDS names one object; ADBPG does not know it.
ALTER FOREIGN TABLE r OPTIONS (DROP prefix, ADD dir 'match/');
ALTER FOREIGN TABLE a OPTIONS (DROP filepath, ADD dir 'match/');
SET oss_fdw.rds_read_one_file = 'match/f.10';
SELECT string_agg(key, ' ') FROM r;
SELECT count(*) FROM a;
-- Only one of the table's own: anybody may set it, and keys are somebody else's.
SET oss_fdw.rds_read_one_file = 'match/sub/deep/f';
SELECT string_agg(key, ' ') FROM r;
SELECT count(*) FROM oss_fdw_list_file('r');
ALTER FOREIGN TABLE r OPTIONS (DROP dir, ADD prefix 'match/sub');
SELECT string_agg(key, ' ') FROM r;
ALTER FOREIGN TABLE r OPTIONS (DROP prefix, ADD filepath 'match/f');
SELECT string_agg(key, ' ') FROM r;
SET oss_fdw.rds_read_one_file = 'match/f.x';
SELECT string_agg(key, ' ') FROM r;
SET oss_fdw.rds_read_one_file = '/match/f.5';
SELECT string_agg(key, ' ') FROM r;
ALTER FOREIGN TABLE r OPTIONS (DROP filepath, ADD dir 'match/');
SET oss_fdw.rds_read_one_file = 'match/none';
SELECT string_agg(key, ' ') FROM r;
RESET oss_fdw.rds_read_one_file;
SELECT count(*) FROM r;

-- A table's own bucket counts; one that does not exist is an error, in every form.
ALTER FOREIGN TABLE a OPTIONS (ADD bucket 'fdw-regress-none');
\set VERBOSITY terse
SELECT * FROM a;
ALTER FOREIGN TABLE a OPTIONS (DROP dir, ADD filepath 'match/f');
SELECT * FROM a;
ALTER FOREIGN TABLE a OPTIONS (SET bucket 'fdw-regress');
SELECT * FROM a;
-- A wrong key is refused, and not shown.
ALTER USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (SET key 'no-such-secret');
SELECT * FROM a;
ALTER FOREIGN TABLE a OPTIONS (DROP filepath, ADD dir 'match/');
SELECT * FROM a;
