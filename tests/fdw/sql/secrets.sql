-- Where access keys may stand, who may use what lies on the host, and that no key is shown.

-- Of the server's options everybody can read: it works, and warns.
CREATE SERVER plain FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-test.aliyuncs.com', id 'THEID', key 'THESECRET', bucket 'bucket');
ALTER SERVER plain OPTIONS (SET key 'ANOTHERSECRET');
ALTER SERVER plain OPTIONS (DROP key);
ALTER SERVER plain OPTIONS (DROP key, DROP id);
ALTER SERVER plain OPTIONS (ADD key 'THESECRET');
-- No message shows a value.
CREATE USER MAPPING FOR PUBLIC SERVER plain OPTIONS (id 'THEID', key ' THESECRET');
CREATE USER MAPPING FOR PUBLIC SERVER plain OPTIONS (id 'THEID', key '');
CREATE USER MAPPING FOR PUBLIC SERVER plain OPTIONS (id 'THEID', keyy 'THESECRET');
CREATE USER MAPPING FOR PUBLIC SERVER plain OPTIONS (id 'THEID', key 'MD512345678');
CREATE SERVER other FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-test.aliyuncs.com', id 'THEID', key 'THESECRET', profile 'p');
CREATE SERVER other FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-test.aliyuncs.com', id 'THEID', key 'THESECRET', anonymous 'true');

-- With the library preloaded they go into the mapping of PUBLIC.
SELECT format('ALTER DATABASE %I SET session_preload_libraries = %L', current_database(), 'oss_fdw') \gexec
\c
\set keys 'SELECT srvoptions, umoptions FROM pg_foreign_server s LEFT JOIN pg_user_mapping u ON u.umserver = s.oid AND u.umuser = 0 WHERE srvname = \'hooked\';'
CREATE SERVER hooked FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-test.aliyuncs.com', id 'THEID', key 'THESECRET', bucket 'bucket');
:keys
CREATE SERVER IF NOT EXISTS hooked FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-other.aliyuncs.com', id 'OTHERID', key 'OTHERSECRET');
:keys
ALTER SERVER hooked OPTIONS (SET key 'SECOND', ADD region 'cn-test');
:keys
ALTER SERVER hooked OPTIONS (ADD id 'SECONDID', ADD key 'THIRD');
:keys
ALTER SERVER hooked OPTIONS (DROP key);
ALTER SERVER hooked OPTIONS (DROP id, DROP key);
:keys
ALTER SERVER hooked OPTIONS (DROP id);
ALTER SERVER hooked OPTIONS (ADD id 'ONLYANID');
ALTER SERVER hooked OPTIONS (ADD "ID" 'FOURTHID', ADD key 'FOURTH');
:keys
ALTER SERVER hooked OPTIONS (SET host 'oss-cn-test-internal.aliyuncs.com');
:keys
-- DROP SERVER does not stop at keys that were the server's; at what depends on it it does.
CREATE FOREIGN TABLE leaning (a int) SERVER hooked OPTIONS (dir 'd/');
DROP SERVER hooked;
SELECT count(*) FROM pg_user_mappings WHERE srvname = 'hooked';
DROP FOREIGN TABLE leaning;
DROP SERVER hooked;
DROP SERVER IF EXISTS hooked;
-- All or nothing.
BEGIN;
CREATE SERVER passing FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-test.aliyuncs.com', id 'THEID', key 'THESECRET');
ROLLBACK;
CREATE SERVER passing FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-test.aliyuncs.com', id 'THEID');
SELECT count(*) FROM pg_foreign_server WHERE srvname = 'passing';
-- From a function too.
DO $$ BEGIN
  EXECUTE 'CREATE SERVER dynamic FOREIGN DATA WRAPPER oss_fdw
    OPTIONS (host ''oss-cn-test.aliyuncs.com'', id ''THEID'', key ''THESECRET'')';
END $$;
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'dynamic';
-- A server that had its keys before: they move with the next that is given.
\c
SELECT format('ALTER DATABASE %I RESET session_preload_libraries', current_database()) \gexec
\c
ALTER SERVER plain OPTIONS (ADD id 'OLDID', ADD key 'OLDSECRET');
SELECT format('ALTER DATABASE %I SET session_preload_libraries = %L', current_database(), 'oss_fdw') \gexec
\c
ALTER SERVER plain OPTIONS (SET key 'NEWSECRET');
SELECT srvoptions, umoptions FROM pg_foreign_server s JOIN pg_user_mapping u ON u.umserver = s.oid
  WHERE srvname = 'plain';

-- What the session shows as its query has no key.
CREATE FUNCTION shown() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE NOTICE '%', current_query();
  RAISE NOTICE '%', (SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid());
END $$;
CREATE EVENT TRIGGER shown ON ddl_command_end WHEN TAG IN ('CREATE SERVER', 'CREATE USER MAPPING')
  EXECUTE FUNCTION shown();
CREATE SERVER shows FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-test.aliyuncs.com', "id" U&'THE\0049D', key /* here */ E'THE''SECRET');
CREATE USER MAPPING FOR CURRENT_USER SERVER shows OPTIONS (id $x$THEID$x$, key 'THE''SECRET');
DROP EVENT TRIGGER shown;

-- What lies on the host is for those who may read its files.
CREATE ROLE regress_oss_user;
CREATE ROLE regress_oss_reader IN ROLE pg_read_server_files;
GRANT USAGE ON FOREIGN DATA WRAPPER oss_fdw TO regress_oss_user, regress_oss_reader;
SET ROLE regress_oss_user;
CREATE SERVER mine FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'oss-cn-test.aliyuncs.com', profile 'p');
CREATE SERVER mine FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'oss-cn-test.aliyuncs.com', role_name 'r');
CREATE SERVER mine FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'oss-cn-test.aliyuncs.com', ca_file 'f');
CREATE SERVER mine FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'oss-cn-test.aliyuncs.com', proxy 'p');
CREATE SERVER mine FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'oss-cn-test.aliyuncs.com', bucket 'bucket');
ALTER SERVER mine OPTIONS (ADD ca_file 'f');
CREATE FOREIGN TABLE pg_temp.t (a int) SERVER mine OPTIONS (dir 'd/');
SELECT * FROM t;
RESET ROLE;
SET ROLE regress_oss_reader;
CREATE SERVER theirs FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (host 'oss-cn-test.aliyuncs.com', profile 'p', ca_file '/nowhere', bucket 'bucket');
RESET ROLE;
-- The owner counts when it is used.
ALTER SERVER theirs OWNER TO regress_oss_user;
CREATE FOREIGN TABLE pg_temp.u (a int) SERVER theirs OPTIONS (dir 'd/');
SELECT * FROM u;


-- Whose keys count: the user's own, else those of PUBLIC, else the server's; at once when they change.
SELECT format('ALTER DATABASE %I RESET session_preload_libraries', current_database()) \gexec
\c
\set endpoint `echo $TM_OSSD`
\set id `echo $TM_OSSD_ID`
\set secret `echo $TM_OSSD_SECRET`
CREATE FUNCTION trial(what text, VARIADIC hidden text[] DEFAULT '{}')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  n bigint; state text; message text; detail text; hint text; context text; word text;
BEGIN
  EXECUTE what INTO n;
  RETURN n || ' rows';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
    detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
  FOREACH word IN ARRAY hidden LOOP
    IF position(word IN concat(message, detail, hint, context)) > 0 THEN
      RETURN 'SHOWN: ' || word;
    END IF;
  END LOOP;
  RETURN concat(state, ' ', substring(detail FROM 'StatusCode=[0-9]+, ErrorCode=[A-Za-z]+'));
END $$;
CREATE SERVER ossd FOREIGN DATA WRAPPER oss_fdw
  OPTIONS (endpoint :'endpoint', region 'cn-test', bucket 'fdw-regress');
CREATE FOREIGN TABLE three (a int, b text) SERVER ossd OPTIONS (filepath 'data/three.csv');
CREATE USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (id :'id', key 'WRONGSECRET');
SELECT trial('SELECT count(*) FROM three', :'id', :'secret', 'WRONGSECRET');
ALTER USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (SET id 'NOBODYSID');
SELECT trial('SELECT count(*) FROM three', :'secret', 'NOBODYSID', 'WRONGSECRET');
ALTER USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (SET id :'id', SET key :'secret');
SELECT trial('SELECT count(*) FROM three');
CREATE USER MAPPING FOR CURRENT_USER SERVER ossd OPTIONS (id :'id', key 'WRONGSECRET');
SELECT trial('SELECT count(*) FROM three', :'id', :'secret', 'WRONGSECRET');
GRANT SELECT ON three TO regress_oss_user;
SET ROLE regress_oss_user;
SELECT trial('SELECT count(*) FROM three');
RESET ROLE;
-- Through a view its owner's count.
CREATE VIEW through AS SELECT * FROM three;
GRANT SELECT ON through TO regress_oss_user;
SET ROLE regress_oss_user;
SELECT trial('SELECT count(*) FROM through', :'id', :'secret', 'WRONGSECRET');
RESET ROLE;
DROP USER MAPPING FOR CURRENT_USER SERVER ossd;
DROP USER MAPPING FOR PUBLIC SERVER ossd;
ALTER SERVER ossd OPTIONS (ADD id :'id', ADD key :'secret');
SELECT trial('SELECT count(*) FROM three');
CREATE USER MAPPING FOR PUBLIC SERVER ossd OPTIONS (id :'id', key 'WRONGSECRET');
SELECT trial('SELECT count(*) FROM three', :'id', :'secret', 'WRONGSECRET');
-- Without any the owner's rights decide whether the host is asked for some.
DROP USER MAPPING FOR PUBLIC SERVER ossd;
ALTER SERVER ossd OPTIONS (DROP id, DROP key);
ALTER SERVER ossd OPTIONS (ADD anonymous 'true');
SELECT trial('SELECT count(*) FROM three');
ALTER SERVER ossd OPTIONS (DROP anonymous);
ALTER SERVER ossd OWNER TO regress_oss_user;
\set VERBOSITY terse
SELECT count(*) FROM three;

SET client_min_messages = warning;
DROP OWNED BY regress_oss_user, regress_oss_reader CASCADE;
DROP ROLE regress_oss_user, regress_oss_reader;
