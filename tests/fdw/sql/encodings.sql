-- A database in another encoding than UTF-8, in which the store's keys are.
\set endpoint `echo $TM_OSSD`
\set id `echo $TM_OSSD_ID`
\set secret `echo $TM_OSSD_SECRET`
SET client_min_messages = warning;
DROP DATABASE IF EXISTS fdw_regress_latin1;
CREATE DATABASE fdw_regress_latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\c fdw_regress_latin1
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION oss_fdw;
CREATE SERVER ossd FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host :'endpoint', region 'cn-test', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (id :'id', key :'secret');
CREATE FOREIGN TABLE "tä b" (a int, b text) SERVER ossd OPTIONS (dir '/latin/é è/', encoding 'utf8');
CREATE FOREIGN TABLE raw (a int, b text) SERVER ossd OPTIONS (prefix 'latin/é è/tä b');
INSERT INTO "tä b" SELECT i, 'gr' || chr(252) || 'n' FROM generate_series(1, 2) i;
SELECT * FROM "tä b";
-- RDS takes the database's encoding when the table names none.
SELECT a, b, length(b) FROM raw;
SELECT regexp_replace(name, '[0-9]+_[0-9]+$', 'N'), size FROM oss_fdw_list_file('tä b');
-- Messages have the keys as the database can write them.
CREATE FOREIGN TABLE nothing (a int) SERVER ossd OPTIONS (prefix 'latin/ß');
SELECT * FROM nothing;
CREATE FOREIGN TABLE bad (a int) SERVER ossd OPTIONS (prefix 'latin/é è/');
CREATE FUNCTION explained() RETURNS SETOF text LANGUAGE plpgsql AS $$ DECLARE line text; BEGIN
  FOR line IN EXECUTE 'EXPLAIN SELECT * FROM bad' LOOP
    IF line ~ 'OssFile:' THEN RETURN NEXT regexp_replace(line, '[0-9]+_[0-9]+$', 'N'); END IF;
  END LOOP;
END $$;
\a\t
SELECT * FROM explained();
DO $$ DECLARE context text; BEGIN
  PERFORM * FROM bad;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
  RAISE WARNING '%', substring(regexp_replace(context, '[0-9]+_[0-9]+"', 'N"') FROM '^[^\n]*');
END $$;
