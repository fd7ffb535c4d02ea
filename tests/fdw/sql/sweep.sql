-- What transactions left that did not commit is nobody's to see, and the next writer's to remove.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
\setenv put 'echo 1 | "$TM_BIN" exec tests/fdw/put.lua'
\setenv store 'exec "$TM_BIN" exec tests/fdw/store.lua'
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
CREATE FOREIGN TABLE t (n int) SERVER adbpg OPTIONS (dir 'sweep/', format 'csv');
CREATE FOREIGN TABLE r (n int) SERVER rds OPTIONS (dir 'sweep/r/', format 'csv');

-- Names such as this cluster makes, of transactions that committed, rolled back and have yet to come.
INSERT INTO t VALUES (1);
SELECT substring(name from '\d{14}') AS time, substring(name from '_(\d{18})\d+_seg') AS mine,
       lpad(((substring(name from '_(\d{15})\d+_seg')::bigint + 1) % 1000000000000000)::text, 15, '0') || '000' AS other
  FROM oss_fdw_list_file('t') \gset
BEGIN;
SELECT pg_current_xact_id() AS dead \gset
ROLLBACK;
SELECT pg_current_xact_id() AS done \gset
SELECT extract(epoch FROM now() - timestamptz '2000-01-01 00:00:00+00')::numeric(20, 6) * 1000000 AS us \gset
SELECT trunc(:us)::bigint AS us, to_char(now() - interval '6 days', 'YYYYMMDDHH24MISS') AS week,
       to_char(now() - interval '9 days', 'YYYYMMDDHH24MISS') AS older, :dead + 1000000 AS future \gset
\setenv stem :time
\setenv us :us
\setenv week :week
\setenv older :older
\setenv mine :mine
\setenv other :other
\setenv dead :dead
\setenv done :done
\setenv future :future

\! sh -c "$put sweep/t_${stem}_${mine}${dead}_seg-1_0.csv"
\! sh -c "$put sweep/t_${week}_${mine}${dead}_seg-1_3.csv.gz"
\! sh -c "$put sweep/t_${older}_${mine}${dead}_seg-1_0.csv"
\! sh -c "$put sweep/elsewhere_${stem}_${mine}${dead}_seg-1_0.csv"
\! sh -c "$put sweep/r/r_${us}_${mine}${dead}.7"
-- Of a scan they are not; nor are they of one with another locator.
SELECT * FROM t;
SELECT count(*) FROM oss_fdw_list_file('t');
CREATE FOREIGN TABLE p (n int) SERVER rds OPTIONS (prefix 'sweep/t', format 'csv');
SELECT * FROM p;

-- Names that nearly match, of another cluster, of no transaction that can be: seen, and left alone.
\! sh -c "$put sweep/t_${stem}_${other}${dead}_seg-1_0.csv"
\! sh -c "$put sweep/t_${stem}_${mine}${done}_seg-1_0.csv"
\! sh -c "$put sweep/t_${stem}_${mine}${future}_seg-1_0.csv"
\! sh -c "$put sweep/t_${stem}_${mine}${dead}_seg0_0.csv"
\! sh -c "$put sweep/t_${stem}_${mine}0${dead}_seg-1_0.csv"
\! sh -c "$put sweep/t_${stem}_${mine}${dead}_seg-1_0.csv.bak"
\! sh -c "$put sweep/t_${stem}_${mine}${dead}_seg-1_00.csv"
\! sh -c "$put sweep/t_${stem}_${mine}2_seg-1_0.csv"
\! sh -c "$put sweep/t_${stem}_${mine}18446744073709551615_seg-1_0.csv"
\! sh -c "$put sweep/t_${stem}_${mine}18446744073709551619_seg-1_0.csv"
\! sh -c "$put sweep/t_2026_${mine}${dead}_seg-1_0.csv"
\! sh -c "$put sweep/${mine}${dead}"
SELECT count(*) FROM t;

-- Uploads: dead, done, other, and one that nobody knows.
\! sh -c "$store upload sweep/t_${stem}_${mine}${dead}_seg-1_1.csv"
\! sh -c "$store upload sweep/any_${stem}_${mine}${done}_seg-1_1.csv"
\! sh -c "$store upload sweep/t_${stem}_${other}${dead}_seg-1_1.csv"
\! sh -c "$store upload sweep/somebody"
\! sh -c "$store upload sweep/below/somebody"
\! sh -c "$store count sweep/"

-- Nothing is swept that the setting excepts.
\c -
SET oss_fdw.sweep = 'off';
INSERT INTO t VALUES (2);
\! sh -c "$store count sweep/"
RESET oss_fdw.sweep;
\c -
SET oss_fdw.sweep = 'uploads';
INSERT INTO t VALUES (3);
\! sh -c "$store count sweep/"
RESET oss_fdw.sweep;

-- The next writer removes objects of its table and of the last days.
\c -
INSERT INTO t VALUES (4);
\! sh -c "$store count sweep/"
-- It does so once a minute.
\! sh -c "$put sweep/t_${stem}_${mine}${dead}_seg-1_0.csv"
INSERT INTO t VALUES (5);
\! sh -c "$store count sweep/"

-- A transaction that is under way is left alone, by name though nothing of it is held.
BEGIN;
SELECT pg_current_xact_id() AS running \gset
\setenv running :running
\! sh -c "$put sweep/t_${stem}_${mine}${running}_seg-1_0.csv"
\! sh -c "$store upload sweep/t_${stem}_${mine}${running}_seg-1_1.csv"
SELECT count(*) FROM t;
-- The function removes all there is, of any table and age; strangers' uploads by their age.
SELECT kind, regexp_replace(name, '\d{10,}', 'N', 'g') AS name, started BETWEEN now() - interval '5 min' AND now() + interval '5 min' AS new
  FROM oss_fdw_sweep('t') ORDER BY 1, 2;
COMMIT;
SELECT count(*) FROM t;
\! sh -c "$store count sweep/"
SELECT kind, regexp_replace(name, '\d{10,}', 'N', 'g') AS name FROM oss_fdw_sweep('t', '-1 minute') ORDER BY 1, 2;
SELECT kind, regexp_replace(name, '\d{10,}', 'N', 'g') AS name FROM oss_fdw_sweep('r') ORDER BY 1, 2;
\! sh -c "$store count sweep/"
SELECT count(*) FROM t;

-- For the owner alone, and for tables that are written to.
CREATE ROLE regress_oss_fdw_sweeper;
GRANT SELECT ON t TO regress_oss_fdw_sweeper;
SET ROLE regress_oss_fdw_sweeper;
SELECT * FROM oss_fdw_sweep('t');
RESET ROLE;
CREATE FOREIGN TABLE f (n int) SERVER adbpg OPTIONS (filepath 'sweep/x', format 'csv');
SELECT * FROM oss_fdw_sweep('f');
CREATE TABLE local (n int);
SELECT * FROM oss_fdw_sweep('local');
SELECT * FROM oss_fdw_sweep('t', NULL);
DROP OWNED BY regress_oss_fdw_sweeper;
DROP ROLE regress_oss_fdw_sweeper;

-- A store that does not answer, or refuses: a warning of the sweep, an error of the write.
CREATE SERVER nobody FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER nobody OPTIONS (id 'nobody', key 'nothing');
CREATE FOREIGN TABLE n (n int) SERVER nobody OPTIONS (dir 'sweep/', format 'csv');
CREATE FUNCTION write() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO n VALUES (1);
  RETURN 'written';
EXCEPTION WHEN OTHERS THEN
  RETURN sqlstate;
END $$;
\set VERBOSITY terse
BEGIN;
SELECT write();
ROLLBACK;
BEGIN;
SELECT write();
ROLLBACK;
SELECT * FROM oss_fdw_sweep('n');
