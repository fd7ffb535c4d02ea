-- Open stores: they outlive what they were made of while somebody uses them, and no longer.
\set endpoint `echo $TM_OSSD`
\set id `echo $TM_OSSD_ID`
\set secret `echo $TM_OSSD_SECRET`
CREATE SERVER ossd FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (endpoint :'endpoint', region 'cn-test', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (id :'id', key :'secret');
CREATE FOREIGN TABLE three (a int, b text) SERVER ossd OPTIONS (filepath 'data/three.csv');
CREATE FOREIGN TABLE made (a int, b text) SERVER ossd OPTIONS (dir 'stores/');
\set VERBOSITY sqlstate

-- A cursor goes on with the key it began with.
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM three;
FETCH 1 FROM c;
ALTER USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (SET key 'WRONGSECRET');
FETCH ALL FROM c;
SAVEPOINT s;
SELECT * FROM three;
ROLLBACK TO s;
COMMIT;
SELECT * FROM three;
ALTER USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (SET key :'secret');
SELECT count(*) FROM three;

-- So does a transaction that has written: what it wrote appears at its end.
BEGIN;
INSERT INTO made VALUES (1, 'one');
ALTER USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (SET key 'WRONGSECRET');
COMMIT;
ALTER USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (SET key :'secret');
SELECT * FROM made;
-- Even when its server is gone by then.
BEGIN;
INSERT INTO made VALUES (2, 'two');
SET LOCAL client_min_messages = warning;
DROP SERVER ossd CASCADE;
COMMIT;
CREATE SERVER ossd FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (endpoint :'endpoint', region 'cn-test', bucket 'fdw-regress');
CREATE USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (id :'id', key :'secret');
CREATE FOREIGN TABLE made (a int, b text) SERVER ossd OPTIONS (dir 'stores/');
SELECT * FROM made ORDER BY a;
BEGIN;
SET LOCAL client_min_messages = warning;
INSERT INTO made VALUES (3, 'three');
DROP SERVER ossd CASCADE;
ROLLBACK;
SELECT count(*) FROM made;

-- A server that changes again and again: more stores than are kept.
CREATE FUNCTION many() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  FOR i IN 1..20 LOOP
    EXECUTE format('ALTER SERVER ossd OPTIONS (SET bucket %L)', 'fdw-regress-' || i);
    BEGIN
      SELECT count(*) INTO n FROM made;
      RETURN NEXT 'there is a bucket ' || i;
    EXCEPTION WHEN undefined_file THEN
      NULL;
    END;
  END LOOP;
  ALTER SERVER ossd OPTIONS (SET bucket 'fdw-regress');
  RETURN NEXT (SELECT count(*)::text FROM made);
END $$;
SELECT * FROM many();
-- Many buckets of one server at once.
CREATE FUNCTION buckets() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE missing bigint := 0;
BEGIN
  FOR i IN 1..20 LOOP
    EXECUTE format('CREATE FOREIGN TABLE b%s (a int, b text) SERVER ossd OPTIONS (dir ''stores/'', bucket %L)',
      i, 'fdw-regress-' || i);
    BEGIN
      EXECUTE format('SELECT count(*) FROM b%s', i);
    EXCEPTION WHEN undefined_file THEN
      missing := missing + 1;
    END;
  END LOOP;
  RETURN missing;
END $$;
SELECT buckets();
SELECT count(*) FROM made;

-- The function of a table's owner uses the owner's key.
CREATE ROLE regress_oss_caller;
CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM made';
CREATE USER MAPPING FOR regress_oss_caller SERVER ossd OPTIONS (id :'id', key 'WRONGSECRET');
GRANT SELECT ON made TO regress_oss_caller;
SET ROLE regress_oss_caller;
SELECT counted();
SELECT count(*) FROM made;
RESET ROLE;
SET client_min_messages = warning;
DROP OWNED BY regress_oss_caller;
DROP USER MAPPING IF EXISTS FOR regress_oss_caller SERVER ossd;
DROP ROLE regress_oss_caller;
