-- What is wrong in a server's options: the first words, and the advice, of each error.
\set endpoint `echo $TM_OSSD`
\set naked `echo ${TM_OSSD#http://}`
\set id `echo $TM_OSSD_ID`
\set secret `echo $TM_OSSD_SECRET`
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (id :'id', key :'secret');
CREATE FOREIGN TABLE t (a int, b text) SERVER s OPTIONS (filepath 'data/three.csv');
CREATE FUNCTION advice(statement text, OUT state text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE statement;
  state := '00000';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  hint := regexp_replace(hint, '127\.0\.0\.1:\d+', 'ADDRESS', 'g');
  state := sqlstate;
END $$;
SELECT * FROM advice('SELECT * FROM t');
CREATE FOREIGN TABLE wild (a int, b text) SERVER s OPTIONS (filepath 'data/*.csv');
SELECT * FROM wild;
-- https where there is none: no scheme means https
ALTER SERVER s OPTIONS (SET endpoint :'naked');
SELECT * FROM advice('SELECT * FROM t');
ALTER SERVER s OPTIONS (SET endpoint 'http://127.0.0.1:1', ADD connect_timeout '1');
SELECT * FROM advice('SELECT * FROM t');
ALTER SERVER s OPTIONS (SET endpoint :'endpoint');
-- keys; there is no region to be wrong
ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (SET key 'wrong');
SELECT * FROM advice('SELECT * FROM t');
ALTER SERVER s OPTIONS (ADD region 'cn-test');
SELECT * FROM advice('SELECT * FROM t');
ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (SET id 'nobody', SET key :'secret');
SELECT * FROM advice('SELECT * FROM t');
ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (SET id :'id');
-- a bucket that is not there, told once, by the INSERT itself
ALTER SERVER s OPTIONS (SET bucket 'no-such-bucket');
SELECT * FROM advice('SELECT * FROM t');
CREATE FOREIGN TABLE w (a int) SERVER s OPTIONS (dir 'w/');
\set VERBOSITY sqlstate
INSERT INTO w VALUES (1);
