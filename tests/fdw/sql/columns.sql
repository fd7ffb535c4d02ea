-- Options that mean columns, in either dialect and of columns themselves; how rows end.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
\setenv put 'exec "$TM_BIN" exec tests/fdw/put.lua'
CREATE SERVER ossd FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (id :'id', key :'key');
\! printf ',,,\n"","","",""\nx,x,x,x\n' | sh -c "$put columns/a.csv"
CREATE FOREIGN TABLE c (a text, gone int, b text, "C c" text, d text) SERVER ossd
  OPTIONS (filepath 'columns/a.csv', format 'csv');
ALTER FOREIGN TABLE c DROP COLUMN gone;
ALTER FOREIGN TABLE c ADD COLUMN twice text GENERATED ALWAYS AS (a || a) STORED;
\pset null NULL
SELECT * FROM c;
ALTER FOREIGN TABLE c OPTIONS (ADD force_not_null 'A, "C c"');
SELECT * FROM c;
ALTER FOREIGN TABLE c OPTIONS (SET force_not_null 'true');
SELECT * FROM c;
-- a column's own option goes before
ALTER FOREIGN TABLE c ALTER COLUMN b OPTIONS (force_not_null 'false');
SELECT * FROM c;
ALTER FOREIGN TABLE c OPTIONS (DROP force_not_null, ADD force_null 'b');
ALTER FOREIGN TABLE c ALTER COLUMN b OPTIONS (DROP force_not_null), ALTER COLUMN d OPTIONS (force_null 'true');
SELECT * FROM c;
-- those of one column only, when no other is read
SELECT d FROM c;
ALTER FOREIGN TABLE c OPTIONS (SET force_null 'b, twice');
SELECT * FROM c;
ALTER FOREIGN TABLE c OPTIONS (SET force_null 'b');
ALTER FOREIGN TABLE c RENAME COLUMN b TO e;
SELECT * FROM c;
ALTER FOREIGN TABLE c OPTIONS (SET force_null 'e');
-- a column may be called as a word for true is abbreviated
CREATE FOREIGN TABLE t (t text, f text, y text, n text) SERVER ossd
  OPTIONS (filepath 'columns/a.csv', format 'csv', force_not_null 't, n', force_null 'f');
SELECT * FROM t;

-- newline
CREATE FOREIGN TABLE crlf (a int, b text) SERVER ossd OPTIONS (dir 'columns/crlf/', newline 'CRLF', header 'true');
CREATE FOREIGN TABLE cr (a int, b text) SERVER ossd OPTIONS (dir 'columns/cr/', newline 'cr', format 'text');
INSERT INTO crlf VALUES (1, E'two\nlines'), (2, NULL);
INSERT INTO cr VALUES (1, E'two\nlines'), (2, E'a\rb');
SELECT a, replace(b, E'\n', '^') AS b FROM crlf;
SELECT a, translate(b, E'\n\r', '^~') AS b FROM cr;
SELECT size FROM oss_fdw_list_file('crlf');
SELECT size FROM oss_fdw_list_file('cr');
