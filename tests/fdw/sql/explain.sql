-- EXPLAIN shows objects and bytes in the words of either dialect.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
\setenv put 'exec "$TM_BIN" exec tests/fdw/put.lua'
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');
\! seq 1 1000 | sed 's/$/,x/' | sh -c "$put explain/a.csv"
\! seq 1 500 | sed 's/$/,x/' | sh -c "$put explain/b.csv"
CREATE FOREIGN TABLE r (n int, t text) SERVER rds OPTIONS (filepath 'explain/a.csv', format 'csv');
CREATE FOREIGN TABLE d (n int, t text) SERVER rds OPTIONS (dir 'explain/', format 'csv');
CREATE FOREIGN TABLE a (n int, t text) SERVER adbpg OPTIONS (dir 'explain/', format 'csv');
CREATE FUNCTION explain(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
    line := regexp_replace(line, '\s*"Async Capable": false,', ''); -- not before 14
    RETURN NEXT regexp_replace(line, 'endpoint=\S+', 'endpoint=ENDPOINT');
  END LOOP;
END
$$;
SELECT explain('(COSTS OFF) SELECT n FROM r WHERE n < 3');
SELECT explain('(COSTS OFF) SELECT n FROM d');
SELECT explain('(COSTS OFF) SELECT n FROM a');
SELECT explain('(COSTS OFF, VERBOSE) SELECT n FROM a WHERE t = ''x''');
SELECT explain('(COSTS OFF, FORMAT json) SELECT n FROM r');
-- ANALYZE tells what was read.
SELECT explain('(COSTS OFF, ANALYZE, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM d');
SELECT explain('(COSTS OFF, ANALYZE, TIMING OFF, SUMMARY OFF) SELECT n FROM d LIMIT 1');
-- Where rows would go.
SELECT explain('(COSTS OFF) INSERT INTO a SELECT 1, ''x''');
SELECT explain('(COSTS OFF) INSERT INTO d SELECT * FROM r');
-- Nothing matched, and a store that does not answer: there is a plan all the same.
ALTER FOREIGN TABLE d OPTIONS (SET dir 'explain/none/');
SELECT explain('(COSTS OFF) SELECT n FROM d');
ALTER SERVER rds OPTIONS (SET host 'http://127.0.0.1:1');
\set VERBOSITY sqlstate
SELECT explain('(COSTS OFF) SELECT n FROM d');
ALTER SERVER rds OPTIONS (SET host :'endpoint');

-- Estimates: by the size of the objects; by what ANALYZE saw, and the size now. A rescan costs as
-- much as a scan, so a join keeps the rows.
CREATE FUNCTION estimate(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  plan json;
BEGIN
  EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
  RETURN plan->0->'Plan'->>'Plan Rows';
END
$$;
SELECT estimate('SELECT * FROM a') BETWEEN 50 AND 1500 AS by_size;
ANALYZE a;
SELECT estimate('SELECT * FROM a') AS analyzed, estimate('SELECT * FROM a WHERE n <= 750') BETWEEN 1000 AND 1300 AS selective;
\! seq 1 1500 | sed 's/$/,x/' | sh -c "$put explain/c.csv"
SELECT estimate('SELECT * FROM a') BETWEEN 2000 AND 3300 AS grown;
SELECT explain('(COSTS OFF) SELECT 1 FROM a x, a y WHERE x.n < y.n');
