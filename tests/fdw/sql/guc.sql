-- The settings oss_fdw.*: names, defaults, ranges; the list of endpoints.
LOAD 'oss_fdw';
SELECT name, setting, unit, context, vartype, min_val, max_val, enumvals
  FROM pg_settings WHERE name LIKE 'oss_fdw.%' ORDER BY name COLLATE "C";
SET oss_fdw.prefetch = '8MB';
SHOW oss_fdw.prefetch;
\set VERBOSITY sqlstate
SET oss_fdw.prefetch = 0;
\set VERBOSITY default
SET oss_fdw.sweep = 'sometimes';
SET oss_fdw.rds_read_one_file = 'a/b c';
SHOW oss_fdw.rds_read_one_file;

-- endpoints
SET oss_fdw.allowed_endpoints = 'https://a.example';
SET oss_fdw.allowed_endpoints = 'a.example, b.example/';
SET oss_fdw.allowed_endpoints = ',';
\set address `echo ${TM_OSSD#http://}`
\set endpoint `echo $TM_OSSD`
\set id `echo $TM_OSSD_ID`
\set secret `echo $TM_OSSD_SECRET`
CREATE SERVER ossd FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (endpoint :'endpoint', region 'cn-test', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (id :'id', key :'secret');
CREATE FOREIGN TABLE three (a int, b text) SERVER ossd OPTIONS (filepath 'data/three.csv');
CREATE FUNCTION allowed(list text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  PERFORM set_config('oss_fdw.allowed_endpoints', list, false);
  RETURN (SELECT count(*) FROM three) || ' rows';
EXCEPTION WHEN insufficient_privilege THEN RETURN 'not allowed';
END $$;
SELECT allowed('');
SELECT allowed(:'address');
SELECT allowed('a.example, ' || :'address' || ', b.example');
SELECT allowed('127.0.0.1'); -- that of the scheme's own port
SELECT allowed('*.aliyuncs.com');
SELECT allowed(replace(:'address', '127.0', '*'));
SELECT allowed(replace(:'address', '127.0.0.1', '127.0.0.2'));
RESET oss_fdw.allowed_endpoints;
-- An open store is asked for its right again.
SELECT count(*) FROM three;
SET oss_fdw.allowed_endpoints = 'a.example';
SELECT allowed('a.example');
