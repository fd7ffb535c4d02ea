-- INSERT into foreign tables: each statement makes objects of its own, which appear at commit.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');
CREATE FUNCTION shape(ft text) RETURNS TABLE (name text, size bigint) LANGUAGE sql AS $$
  SELECT regexp_replace(regexp_replace(f.name, '_[0-9]{14}_[0-9]+_', '_TIME_N_'), '_[0-9]{15}_[0-9]+', '_TIME_N'), f.size
  FROM oss_fdw_list_file(ft) f ORDER BY f.name COLLATE "C"
$$;

-- Names and bytes in both dialects, with dir and prefix.
CREATE FOREIGN TABLE a (n int, t text) SERVER adbpg OPTIONS (dir 'write/a/', format 'csv');
CREATE FOREIGN TABLE b (n int, t text) SERVER adbpg OPTIONS (prefix 'write/b/x', format 'text', filetype 'gzip');
CREATE FOREIGN TABLE c (n int, t text) SERVER rds OPTIONS (dir 'write/c/', format 'csv');
CREATE FOREIGN TABLE d (n int, t text) SERVER rds OPTIONS (prefix 'write/d/y', format 'csv', compressiontype 'zstd');
INSERT INTO a VALUES (1, 'one'), (2, 'two, "quoted"'), (3, NULL);
INSERT INTO b VALUES (1, E'tab\tand\\backslash'), (2, NULL);
INSERT INTO c VALUES (1, 'one');
INSERT INTO c VALUES (2, 'two');
INSERT INTO d SELECT n, repeat('d', n) FROM generate_series(1, 3) n;
SELECT * FROM shape('a');
SELECT name FROM shape('b');
SELECT * FROM shape('c');
SELECT name FROM shape('d');
SELECT * FROM a ORDER BY n;
SELECT * FROM b ORDER BY n;
SELECT * FROM c ORDER BY n;
SELECT * FROM d ORDER BY n;

-- No rows, no object; nothing is seen before the commit, nothing is left of a rollback.
CREATE FOREIGN TABLE e (n int, t text) SERVER adbpg OPTIONS (dir 'write/e/', format 'csv');
INSERT INTO e SELECT n, 'x' FROM generate_series(1, 0) n;
SELECT * FROM shape('e');
BEGIN;
INSERT INTO e VALUES (1, 'in a transaction');
SELECT count(*) FROM e;
ROLLBACK;
SELECT * FROM shape('e');
BEGIN;
INSERT INTO e VALUES (1, 'kept');
SAVEPOINT s;
INSERT INTO e VALUES (2, 'rolled back');
ROLLBACK TO s;
INSERT INTO e VALUES (3, 'kept too');
COMMIT;
SELECT * FROM e ORDER BY n;
DO $$
BEGIN
  FOR i IN 10..12 LOOP
    BEGIN
      INSERT INTO e VALUES (i, 'from a loop');
      PERFORM 1 / (i - 11);
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
  END LOOP;
END
$$;
SELECT * FROM e ORDER BY n;
-- A statement that fails in its middle.
INSERT INTO e SELECT n, 'x' || 1 / (n - 50000) FROM generate_series(1, 60000) n;
SELECT count(*) FROM e;
-- From itself: the rows of before, and an end.
INSERT INTO e SELECT n + 100, t FROM e;
SELECT * FROM e ORDER BY n;

-- What sees or changes rows on their way.
CREATE FOREIGN TABLE f (n int, t text DEFAULT 'by default') SERVER adbpg OPTIONS (dir 'write/f/', format 'csv');
INSERT INTO f VALUES (1), (2) RETURNING n, t, tableoid::regclass;
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.n = 13 THEN RETURN NULL; END IF;
  NEW.t := NEW.t || ', changed';
  RETURN NEW;
END
$$;
CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE 'after %', NEW;
  RETURN NULL;
END
$$;
CREATE TRIGGER b BEFORE INSERT ON f FOR EACH ROW EXECUTE FUNCTION before();
CREATE TRIGGER a AFTER INSERT ON f FOR EACH ROW EXECUTE FUNCTION after();
INSERT INTO f VALUES (12, 'twelve'), (13, 'thirteen'), (14, 'fourteen');
SELECT * FROM f ORDER BY n;
CREATE VIEW v AS SELECT * FROM a WHERE n < 10 WITH CHECK OPTION;
INSERT INTO v VALUES (9, 'nine');
INSERT INTO v VALUES (4, 'four'), (10, 'ten');
SELECT * FROM a ORDER BY n;

-- Several tables in one statement.
WITH x AS (INSERT INTO a SELECT n, 'x' FROM generate_series(20, 22) n RETURNING n),
     y AS (INSERT INTO c SELECT n, 'y' FROM x RETURNING n)
INSERT INTO d SELECT n, 'z' FROM y;
SELECT count(*) FILTER (WHERE t = 'x'), (SELECT count(*) FROM c WHERE t = 'y'), (SELECT count(*) FROM d WHERE t = 'z') FROM a;

-- Rows routed to partitions, foreign and local.
CREATE TABLE parted (k int, t text) PARTITION BY LIST (k);
CREATE FOREIGN TABLE p1 PARTITION OF parted FOR VALUES IN (1) SERVER adbpg OPTIONS (dir 'write/k=1/', format 'csv');
CREATE FOREIGN TABLE p2 (t text, gone int, k int) SERVER rds OPTIONS (dir 'write/k=2/', format 'csv');
ALTER FOREIGN TABLE p2 DROP COLUMN gone;
ALTER TABLE parted ATTACH PARTITION p2 FOR VALUES IN (2);
CREATE TABLE p3 PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT n % 4, 'row ' || n FROM generate_series(1, 8) n;
SELECT tableoid::regclass, * FROM parted ORDER BY t;
INSERT INTO parted VALUES (1, 'a conflict with nothing') ON CONFLICT DO NOTHING;
UPDATE p3 SET k = 1 WHERE k = 3;
UPDATE parted SET k = 1 WHERE k = 3;
SELECT tableoid::regclass, count(*) FROM parted GROUP BY 1 ORDER BY min(tableoid::regclass::text);
SELECT name FROM shape('p1');

-- Dropped and generated columns have no field.
CREATE FOREIGN TABLE g (n int, gone text, twice int GENERATED ALWAYS AS (n * 2) STORED, t text)
  SERVER adbpg OPTIONS (dir 'write/g/', format 'csv', header 'true');
ALTER FOREIGN TABLE g DROP COLUMN gone;
INSERT INTO g (n, t) VALUES (1, 'one'), (2, 'two');
SELECT * FROM shape('g');
SELECT * FROM g ORDER BY n;
CREATE FOREIGN TABLE g2 (l text) SERVER adbpg OPTIONS (dir 'write/g/', format 'text');
SELECT * FROM g2;
-- A table without columns, and one of a single column.
CREATE FOREIGN TABLE none () SERVER adbpg OPTIONS (dir 'write/none/', format 'text');
INSERT INTO none DEFAULT VALUES;
SELECT * FROM shape('none');
CREATE FOREIGN TABLE single (t text) SERVER adbpg OPTIONS (dir 'write/single/', format 'csv');
INSERT INTO single VALUES ('\.'), (NULL), (''), ('x');
SELECT t, t IS NULL AS "null" FROM single;

-- A new object past the size, on a row bound, each with its header.
CREATE FOREIGN TABLE roll (n int, t text) SERVER adbpg
  OPTIONS (dir 'write/roll/', format 'csv', header 'true', fragment_size '1');
INSERT INTO roll SELECT n, repeat('r', 90) FROM generate_series(1, 30000) n;
SELECT name, size > 1024 * 1024 AS full FROM shape('roll');
SELECT count(*), sum(n), min(t) = repeat('r', 90) AS whole FROM roll;

-- Credentials are those of the user whose rights count: a view's owner.
CREATE ROLE regress_fdw_owner;
CREATE ROLE regress_fdw_writer;
GRANT USAGE ON FOREIGN DATA WRAPPER oss_fdw TO regress_fdw_owner;
CREATE SERVER private FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
ALTER SERVER private OWNER TO regress_fdw_owner;
CREATE USER MAPPING FOR regress_fdw_owner SERVER private OPTIONS (id :'id', key :'key');
CREATE FOREIGN TABLE private (n int) SERVER private OPTIONS (dir 'write/private/', format 'csv');
CREATE TABLE privates (n int) PARTITION BY LIST (n);
ALTER TABLE privates ATTACH PARTITION private DEFAULT;
GRANT ALL ON privates, private TO regress_fdw_owner, regress_fdw_writer;
CREATE VIEW through AS SELECT * FROM private;
CREATE VIEW routed AS SELECT * FROM privates;
ALTER VIEW through OWNER TO regress_fdw_owner;
ALTER VIEW routed OWNER TO regress_fdw_owner;
GRANT ALL ON through, routed TO regress_fdw_writer;
SET ROLE regress_fdw_writer;
INSERT INTO private VALUES (1);
INSERT INTO privates VALUES (2);
INSERT INTO through VALUES (3);
INSERT INTO routed VALUES (4);
SELECT * FROM through ORDER BY n;
RESET ROLE;
DROP VIEW through, routed;
DROP SERVER private CASCADE;
DROP TABLE privates;
REVOKE USAGE ON FOREIGN DATA WRAPPER oss_fdw FROM regress_fdw_owner;
DROP ROLE regress_fdw_owner, regress_fdw_writer;

-- What is refused.
CREATE FOREIGN TABLE one (n int, t text) SERVER rds OPTIONS (filepath 'write/one', format 'csv');
INSERT INTO one VALUES (1, 'x');
SELECT is_insertable_into FROM information_schema.tables WHERE table_name IN ('a', 'one') ORDER BY table_name;
UPDATE a SET n = 1;
DELETE FROM a;
INSERT INTO a VALUES (1, 'x') ON CONFLICT (n) DO UPDATE SET t = 'y';
BEGIN READ ONLY;
INSERT INTO a VALUES (1, 'x');
ROLLBACK;
BEGIN;
INSERT INTO a VALUES (99, 'x');
PREPARE TRANSACTION 'x';
SELECT count(*) FROM a WHERE n = 99;
EXPLAIN (COSTS OFF) INSERT INTO one SELECT * FROM a;
