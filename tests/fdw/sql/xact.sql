-- What is written belongs to the transaction: all of it appears at commit, or none ever.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
\setenv store 'exec "$TM_BIN" exec tests/fdw/store.lua'
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');
CREATE FOREIGN TABLE a (n int, t text) SERVER adbpg OPTIONS (dir 'xact/a/', format 'csv');
CREATE FOREIGN TABLE r (n int, t text) SERVER rds OPTIONS (dir 'xact/r/', format 'csv');
-- Objects of a megabyte and more, so uploads of parts and not what memory can keep.
CREATE FOREIGN TABLE big (n int, t text) SERVER adbpg
  OPTIONS (prefix 'xact/big/x', format 'text', filetype 'plain', fragment_size '1', oss_flush_block_size '1');
CREATE VIEW rows AS SELECT n, repeat(md5(n::text), 4) AS t FROM generate_series(1, 24000) n;

-- Names of both dialects; the time and the number that is not ours to print are N.
INSERT INTO a VALUES (1, 'one');
INSERT INTO r VALUES (1, 'one');
INSERT INTO big SELECT * FROM rows;
\! sh -c "$store keys xact/"
SELECT count(*), count(DISTINCT n) FROM big;
SELECT name ~ '^xact/a/a_20\d{12}_\d{19,38}_seg-1_0\.csv$' AS ok,
       to_timestamp(substring(name from '\d{14}'), 'YYYYMMDDHH24MISS') BETWEEN now() - interval '5 min' AND now() AS now
  FROM oss_fdw_list_file('a');
SELECT timestamptz '2000-01-01 00:00:00+00' + substring(name from 'r_(\d+)_')::bigint * interval '1 us'
         BETWEEN now() - interval '5 min' AND now() AS now
  FROM oss_fdw_list_file('r');

-- Not seen before the commit, by the transaction itself included.
BEGIN;
INSERT INTO a VALUES (2, 'two');
INSERT INTO r SELECT * FROM a;
INSERT INTO big SELECT * FROM rows LIMIT 10;
SELECT count(*) FROM a;
\! sh -c "$store count xact/"
COMMIT;
SELECT * FROM a ORDER BY n;
SELECT * FROM r ORDER BY n;
SELECT count(*) FROM big;

-- ROLLBACK, an error, and an error of a deferred trigger at COMMIT leave nothing.
\! sh -c "$store count xact/"
BEGIN;
INSERT INTO a VALUES (3, 'three');
INSERT INTO big SELECT * FROM rows;
ROLLBACK;
INSERT INTO big SELECT 1 / (n - 20000), t FROM rows;
CREATE TABLE parent (n int PRIMARY KEY);
CREATE TABLE child (n int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO big SELECT * FROM rows;
INSERT INTO child VALUES (1);
INSERT INTO r VALUES (3, 'three');
COMMIT;
COPY a FROM stdin WITH (FORMAT csv);
4,four
five,5
\.
\! sh -c "$store count xact/"

-- Savepoints: what is rolled back to goes, what is released goes with the outer one.
BEGIN;
INSERT INTO a VALUES (10, 'kept');
SAVEPOINT s1;
INSERT INTO a VALUES (11, 'rolled back');
SAVEPOINT s2;
INSERT INTO big SELECT * FROM rows;
INSERT INTO a VALUES (12, 'rolled back with its outer one');
RELEASE s2;
ROLLBACK TO s1;
INSERT INTO a VALUES (13, 'kept');
SAVEPOINT s3;
INSERT INTO a VALUES (14, 'kept');
RELEASE s3;
RELEASE s1;
SAVEPOINT s4;
INSERT INTO a VALUES (15, 'rolled back');
ROLLBACK TO s4;
COMMIT;
SELECT * FROM a WHERE n >= 10 ORDER BY n;
SELECT count(*) FROM big;

-- Exception blocks are subtransactions.
DO $$
BEGIN
  INSERT INTO r VALUES (20, 'kept');
  FOR i IN 21 .. 26 LOOP
    BEGIN
      INSERT INTO r VALUES (i, 'loop');
      BEGIN
        INSERT INTO r VALUES (i + 100, 'inner');
        IF i % 3 = 0 THEN RAISE EXCEPTION 'inner'; END IF;
      EXCEPTION WHEN raise_exception THEN
        IF i = 24 THEN RAISE; END IF;
      END;
      IF i % 2 = 1 THEN RAISE EXCEPTION 'outer'; END IF;
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
  END LOOP;
END $$;
SELECT * FROM r WHERE n >= 20 ORDER BY n;
\! sh -c "$store count xact/"

-- A procedure that commits on its way; the last part fails.
CREATE PROCEDURE in_parts() LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 31 .. 34 LOOP
    INSERT INTO a VALUES (i, 'part');
    IF i % 2 = 0 THEN COMMIT; ELSE INSERT INTO r VALUES (i, 'part'); END IF;
    IF i = 33 THEN ROLLBACK; END IF;
  END LOOP;
  INSERT INTO a VALUES (35, 'part');
  RAISE EXCEPTION 'at the end';
END $$;
CALL in_parts();
SELECT * FROM a WHERE n > 30 ORDER BY n;
SELECT * FROM r WHERE n BETWEEN 31 AND 99 ORDER BY n;

-- A cursor goes on with what it found; one WITH HOLD is made before the objects appear.
BEGIN;
DECLARE c CURSOR FOR SELECT n FROM a WHERE n < 10 ORDER BY n;
FETCH 1 FROM c;
INSERT INTO a VALUES (3, 'three');
FETCH ALL FROM c;
DECLARE h CURSOR WITH HOLD FOR SELECT n FROM a WHERE n < 10 ORDER BY n;
COMMIT;
FETCH ALL FROM h;
CLOSE h;
SELECT n FROM a WHERE n < 10 ORDER BY n;

-- Two-phase commit is refused, unless nothing is left that was written.
BEGIN;
INSERT INTO a VALUES (40, 'forty');
PREPARE TRANSACTION 'oss_fdw';
BEGIN;
SAVEPOINT s;
INSERT INTO a VALUES (41, 'forty-one');
ROLLBACK TO s;
INSERT INTO a SELECT 42, 'none' WHERE false;
PREPARE TRANSACTION 'oss_fdw';
ROLLBACK PREPARED 'oss_fdw';
SELECT * FROM a WHERE n >= 40;

-- A read-only transaction does not write.
BEGIN READ ONLY;
INSERT INTO a VALUES (43, 'no');
ROLLBACK;
SET default_transaction_read_only = on;
COPY a FROM stdin;
\.
RESET default_transaction_read_only;

-- More statements in a transaction than their numbers in names: none is made twice.
CREATE FOREIGN TABLE many (n int) SERVER adbpg OPTIONS (dir 'xact/many/', format 'csv');
DO $$ BEGIN FOR i IN 1 .. 1010 LOOP INSERT INTO many VALUES (i); END LOOP; END $$;
SELECT count(*), count(DISTINCT n) FROM many;
SELECT count(*) FROM oss_fdw_list_file('many');

-- A table whose name cannot stand in a key as it is, and one whose names would be too long.
CREATE FOREIGN TABLE "d/é t" (n int) SERVER rds OPTIONS (dir 'xact/odd/', format 'csv');
INSERT INTO "d/é t" VALUES (1);
SELECT name ~ '^xact/odd/d_é t_\d+_\d+$' AS ok FROM oss_fdw_list_file('d/é t');
DO $$ BEGIN EXECUTE format('CREATE FOREIGN TABLE long (n int) SERVER rds OPTIONS (dir %L, format ''csv'')', repeat('x', 950) || '/'); END $$;
\set VERBOSITY terse
INSERT INTO long VALUES (1);
\! sh -c "$store count xact/"
