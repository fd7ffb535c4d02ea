-- Foreign tables are read through COPY's parser, an object at a time.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
\setenv put 'exec "$TM_BIN" exec tests/fdw/put.lua'
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');

-- Each object is parsed alone: its own newline style, a last line without one, quoted newlines.
\! printf '1,one\n2,"two\nlines"\n3,' | sh -c "$put read/plain/a.csv"
\! printf '4,four\r\n5,"five, ""quoted"""\r\n' | sh -c "$put read/plain/b.csv"
\! printf '' | sh -c "$put read/plain/c.csv"
\! printf '6,six\r7,seven\r' | sh -c "$put read/plain/d.csv"
CREATE FOREIGN TABLE plain (n int, t text) SERVER rds OPTIONS (dir 'read/plain/', format 'csv');
SELECT n, t, t IS NULL AS "null" FROM plain;
SELECT count(*) FROM plain;
SELECT t FROM plain WHERE n > 4;
SELECT plain FROM plain WHERE n = 4;
SELECT tableoid::regclass, n FROM plain LIMIT 2;

-- A header in each object, with the options of csv.
\! printf 'n|t\n1|~a|b~\n2|-\n' | sh -c "$put read/header/a.csv"
\! printf 'n|t\n3|~it''s \\~ here~\n4|~-~\n' | sh -c "$put read/header/b.csv"
\! printf 'n|t\n' | sh -c "$put read/header/c.csv"
CREATE FOREIGN TABLE header (n int, t text) SERVER adbpg
  OPTIONS (dir 'read/header/', format 'csv', header 'true', delimiter '|', quote '~', escape E'\\', "null" '-');
SELECT n, t, t IS NULL AS "null" FROM header;
ALTER FOREIGN TABLE header OPTIONS (ADD force_null 'true');
SELECT n, t IS NULL AS "null" FROM header;
ALTER FOREIGN TABLE header OPTIONS (DROP force_null, ADD force_not_null 'true');
SELECT n, t, t IS NULL AS "null" FROM header WHERE n IN (2, 4);

-- format 'text', and its end mark, which ends an object but not the scan.
\! printf '1\tone\\ttab\n2\t\\N\n' | sh -c "$put read/text/a.txt"
\! printf '3\tthree\n\\.\n4\tfour\n' | sh -c "$put read/text/b.txt"
\! printf '5\tfive\n' | sh -c "$put read/text/c.txt"
CREATE FOREIGN TABLE txt (n int, t text) SERVER adbpg OPTIONS (dir 'read/text/', format 'text');
SELECT n, t, t IS NULL AS "null" FROM txt;

-- gzip and zstd; several members in one object.
\! printf '1,one\n2,two\n' | sh -c "$put read/gzip/a.csv.gz gzip"
\! (printf '3,thr' | gzip -c; printf 'ee\n4,four\n' | gzip -c) | sh -c "$put read/gzip/b.csv.gz"
\! printf '' | sh -c "$put read/gzip/c.csv.gz gzip"
\! seq 5 60000 | sed 's/$/,x/' | sh -c "$put read/gzip/d.csv.gz gzip"
CREATE FOREIGN TABLE gz (n int, t text) SERVER rds OPTIONS (dir 'read/gzip/', format 'csv', compressiontype 'gzip');
SELECT * FROM gz WHERE n < 7;
SELECT count(*), sum(n), count(t) FROM gz;
\! printf '1,one\n2,two\n' | sh -c "$put read/zstd/a.csv.zst zstd"
CREATE FOREIGN TABLE zst (n int, t text) SERVER adbpg OPTIONS (dir 'read/zstd/', format 'csv', filetype 'zstd');
SELECT * FROM zst;

-- What is compressed and what is said of it must agree; damage is told, with the object.
\set VERBOSITY terse
ALTER FOREIGN TABLE gz OPTIONS (SET compressiontype 'none');
SELECT * FROM gz;
ALTER FOREIGN TABLE zst OPTIONS (DROP filetype);
SELECT * FROM zst;
ALTER FOREIGN TABLE plain OPTIONS (ADD compressiontype 'gzip');
SELECT * FROM plain;
ALTER FOREIGN TABLE plain OPTIONS (DROP compressiontype);
\! seq 1 1000 | sed 's/$/,x/' | sh -c "$put read/cut/a.csv.gz gzip 500"
CREATE FOREIGN TABLE cut (n int, t text) SERVER rds OPTIONS (dir 'read/cut/', format 'csv', compressiontype 'gzip');
SELECT count(*) FROM cut;
\! (printf '1,one\n' | gzip -c; printf 'junk') | sh -c "$put read/junk/a.csv.gz"
CREATE FOREIGN TABLE junk (n int, t text) SERVER rds OPTIONS (dir 'read/junk/', format 'csv', compressiontype 'gzip');
SELECT count(*) FROM junk;

-- Errors of rows say which object, line and column.
\set VERBOSITY default
\! printf '1,one\n' | sh -c "$put read/bad/a.csv"
\! printf '2,two\nthree,3\n' | sh -c "$put read/bad/b.csv"
CREATE FOREIGN TABLE bad (n int, t text) SERVER rds OPTIONS (dir 'read/bad/', format 'csv');
SELECT * FROM bad;
SELECT t FROM bad;
SELECT count(*) FROM bad;
SELECT n FROM bad LIMIT 2;
\! printf '2,two,2\n' | sh -c "$put read/bad/b.csv"
SELECT n FROM bad;
\! printf '2\n' | sh -c "$put read/bad/b.csv"
SELECT n FROM bad;
\! printf '2,"two\nlines\nand no end\n' | sh -c "$put read/bad/b.csv"
SELECT n FROM bad;
\! printf '2,t\000wo\n' | sh -c "$put read/bad/b.csv"
SELECT n FROM bad;
\! printf '2,tw\303\n' | sh -c "$put read/bad/b.csv"
SELECT n FROM bad;
ALTER FOREIGN TABLE bad OPTIONS (ADD encoding 'latin1');
SELECT n, t FROM bad;

-- Keys with blanks and other scripts.
\! printf '1,one\n' | sh -c "$put 'read/odd keys/a b+c%%.csv'"
\! printf '2,two\n' | sh -c "$put 'read/odd keys/数据.csv'"
\! printf '3,x,y\n' | sh -c "$put 'read/odd keys/日本/é.csv'"
CREATE FOREIGN TABLE odd (n int, t text) SERVER rds OPTIONS (dir 'read/odd keys/', format 'csv');
SELECT * FROM odd;
CREATE FOREIGN TABLE odder (n int, t text) SERVER rds OPTIONS (dir '/read/odd keys/日本/', format 'csv');
SELECT * FROM odder;

-- Scans interleave, repeat and nest.
\! seq 1 5 | sed 's/$/,x/' | sh -c "$put read/five/a.csv"
\! seq 6 9 | sed 's/$/,y/' | sh -c "$put read/five/b.csv"
CREATE FOREIGN TABLE five (n int, t text) SERVER rds OPTIONS (dir 'read/five/', format 'csv');
SELECT a.n, b.n FROM plain a, five b WHERE a.n + b.n = 9 ORDER BY 1;
SELECT count(*), sum(a.n * b.n) FROM five a, five b;
SET enable_material = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT count(*), sum(a.n * b.n) FROM five a JOIN five b ON a.n < b.n;
SELECT g, (SELECT string_agg(t, '' ORDER BY n) FROM five WHERE n <= g) FROM generate_series(1, 9, 4) g;
SELECT g, l.n FROM generate_series(1, 3) g, LATERAL (SELECT n FROM five WHERE n > g LIMIT 1) l;
RESET ALL;
CREATE FUNCTION how_many(int) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM five WHERE n < $1';
SELECT n, how_many(n) FROM five WHERE n % 4 = 1;
CREATE DOMAIN known AS int CHECK (how_many(VALUE) > 0);
CREATE FOREIGN TABLE nested (n known, t text) SERVER rds OPTIONS (dir 'read/five/', format 'csv');
SELECT n FROM nested;
CREATE FOREIGN TABLE nested2 (n known, t text) SERVER rds OPTIONS (filepath 'read/five/b.csv', format 'csv');
SELECT sum(n) FROM nested2;

-- Cursors, held ones too, and two at a time.
BEGIN;
DECLARE a CURSOR FOR SELECT n FROM five;
FETCH 3 FROM a;
DECLARE b SCROLL CURSOR WITH HOLD FOR SELECT n FROM plain;
FETCH 2 FROM b;
FETCH 3 FROM a;
FETCH BACKWARD 1 FROM b;
SAVEPOINT s;
SELECT * FROM five, junk;
ROLLBACK TO s;
FETCH ALL FROM a;
COMMIT;
FETCH ALL FROM b;
CLOSE b;

-- Each execution of a prepared statement lists anew; a table altered meanwhile is planned anew.
PREPARE q AS SELECT n, t FROM five WHERE n > 7;
EXECUTE q;
\! seq 10 11 | sed 's/$/,z/' | sh -c "$put read/five/c.csv"
EXECUTE q;
\o /dev/null
EXECUTE q; EXECUTE q; EXECUTE q; EXECUTE q; EXECUTE q;
\o
ALTER FOREIGN TABLE five OPTIONS (SET dir 'read/plain/');
EXECUTE q;
ALTER FOREIGN TABLE five ALTER n TYPE bigint;
EXECUTE q;
DEALLOCATE q;
DO $$
DECLARE
  a bigint; b bigint;
BEGIN
  SELECT count(*) INTO a FROM five;
  ALTER FOREIGN TABLE five OPTIONS (SET dir 'read/five/');
  SELECT count(*) INTO b FROM five;
  RAISE NOTICE '% and %', a, b;
  BEGIN
    PERFORM n FROM bad;
    PERFORM n FROM junk;
  EXCEPTION WHEN others THEN RAISE NOTICE 'caught %', SQLSTATE;
  END;
  SELECT count(*) INTO b FROM five;
  RAISE NOTICE '%', b;
END
$$;

-- Dropped, added and generated columns.
CREATE FOREIGN TABLE gen (n int, d int GENERATED ALWAYS AS (n * 2) STORED, t text) SERVER rds OPTIONS (dir 'read/plain/', format 'csv');
SELECT * FROM gen LIMIT 3;
SELECT d FROM gen LIMIT 2;
SELECT t FROM gen LIMIT 1;
CREATE FOREIGN TABLE dropped (x date, n int, y date, t text) SERVER rds OPTIONS (dir 'read/plain/', format 'csv');
ALTER FOREIGN TABLE dropped DROP x, DROP y;
SELECT * FROM dropped LIMIT 2;
SELECT t FROM dropped OFFSET 3 LIMIT 1;

-- What is written is read: not before the commit, and not twice by a statement that does both.
CREATE FOREIGN TABLE w (n int, d int GENERATED ALWAYS AS (n * 2) STORED, t text) SERVER rds
  OPTIONS (dir 'read/written/', format 'csv', compressiontype 'zstd', header 'true');
BEGIN;
INSERT INTO w (n, t) VALUES (1, 'one'), (2, NULL), (3, 'a "quoted",
text'), (4, '');
SELECT count(*) FROM w;
COMMIT;
SELECT *, t IS NULL AS "null" FROM w ORDER BY n;
INSERT INTO w (n, t) SELECT n + 10, t FROM w;
SELECT count(*), sum(n), sum(d) FROM w;

-- Partitions, pruned ones too; tables of no column, or none that COPY reads.
CREATE TABLE par (k int, v text) PARTITION BY LIST (k);
CREATE FOREIGN TABLE par1 PARTITION OF par FOR VALUES IN (1) SERVER rds OPTIONS (dir 'read/par/1/', format 'csv');
CREATE FOREIGN TABLE par2 PARTITION OF par FOR VALUES IN (2) SERVER adbpg OPTIONS (dir 'read/par/2/', format 'csv', filetype 'gzip');
INSERT INTO par SELECT g % 2 + 1, 'v' || g FROM generate_series(1, 1000) g;
SELECT k, count(*), count(v), min(tableoid::regclass::text) FROM par GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM par a JOIN par b USING (v) WHERE a.k = 2;
SELECT par FROM par ORDER BY k, v LIMIT 1;
ANALYZE par;
SELECT relname, reltuples FROM pg_class WHERE relname ~ '^par[0-9]$' ORDER BY 1;
CREATE FOREIGN TABLE none () SERVER rds OPTIONS (dir 'read/none/', format 'text');
INSERT INTO none DEFAULT VALUES;
SELECT count(*) FROM none;
SELECT FROM none;

-- Rights are those of the view's owner; the mapping too.
CREATE ROLE regress_reader;
CREATE VIEW seen AS SELECT n FROM plain;
GRANT SELECT ON seen TO regress_reader;
DROP USER MAPPING FOR PUBLIC SERVER rds;
CREATE USER MAPPING FOR CURRENT_USER SERVER rds OPTIONS (id :'id', key :'key');
SET ROLE regress_reader;
SELECT count(*) FROM seen;
SELECT count(*) FROM plain;
RESET ROLE;

-- COPY's progress is not shown as if somebody ran COPY.
SELECT n, (SELECT count(*) FROM pg_stat_progress_copy) AS progress, current_setting('track_activities') FROM plain LIMIT 1;

-- What reading cannot do, core refuses.
UPDATE plain SET n = 1;
DELETE FROM plain;
DROP VIEW seen;
DROP ROLE regress_reader;
