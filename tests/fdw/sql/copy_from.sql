-- COPY into foreign tables and into partitions of them.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');

CREATE FOREIGN TABLE a (n int, t text DEFAULT 'by default') SERVER adbpg OPTIONS (dir 'copy/a/', format 'csv');
COPY a FROM STDIN;
1	one
2	\N
3	three, "quoted"
\.
COPY a (n) FROM STDIN (FORMAT csv);
4
5
\.
COPY a FROM STDIN WHERE n % 2 = 0;
6	six
7	seven
\.
COPY a FROM STDIN;
\.
SELECT * FROM a ORDER BY n;
SELECT count(*) FROM oss_fdw_list_file('a');

-- A bad line in the middle leaves nothing.
COPY a FROM STDIN;
8	eight
nine	nine
\.
SELECT count(*) FROM oss_fdw_list_file('a');

-- More than a batch, twice in a transaction.
CREATE FOREIGN TABLE b (n int, t text) SERVER adbpg OPTIONS (dir 'copy/b/', format 'text', filetype 'gzip');
BEGIN;
COPY b FROM PROGRAM 'seq 1 5000 | sed "s/.*/&\trow &/"';
COPY b FROM PROGRAM 'seq 5001 5010 | sed "s/.*/&\trow &/"';
SELECT count(*) FROM oss_fdw_list_file('b');
COMMIT;
SELECT count(*) FROM oss_fdw_list_file('b');
SELECT count(*), sum(n), count(*) FILTER (WHERE t = 'row ' || n) FROM b;

-- Triggers.
CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.n = 13 THEN RETURN NULL; END IF;
  NEW.t := NEW.t || ', changed';
  RETURN NEW;
END
$$;
CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE 'after %', NEW;
  RETURN NULL;
END
$$;
CREATE FOREIGN TABLE c (n int, t text) SERVER adbpg OPTIONS (dir 'copy/c/', format 'csv');
CREATE TRIGGER b BEFORE INSERT ON c FOR EACH ROW EXECUTE FUNCTION changed();
CREATE TRIGGER a AFTER INSERT ON c FOR EACH ROW EXECUTE FUNCTION told();
COPY c FROM STDIN;
12	twelve
13	thirteen
14	fourteen
\.
SELECT * FROM c ORDER BY n;

-- Rows routed to partitions.
CREATE TABLE parted (k int, t text) PARTITION BY LIST (k);
CREATE FOREIGN TABLE p1 PARTITION OF parted FOR VALUES IN (1) SERVER adbpg OPTIONS (dir 'copy/p1/', format 'csv');
CREATE FOREIGN TABLE p2 (t text, k int) SERVER adbpg OPTIONS (dir 'copy/p2/', format 'csv', header 'true');
ALTER TABLE parted ATTACH PARTITION p2 FOR VALUES IN (2);
CREATE TABLE p3 PARTITION OF parted DEFAULT;
COPY parted FROM PROGRAM 'seq 1 3000 | awk ''{ print $1 % 4 "\trow " $1 }''';
SELECT tableoid::regclass, k, count(*), count(DISTINCT t) FROM parted GROUP BY 1, 2 ORDER BY 2;
SELECT count(*) FROM oss_fdw_list_file('p1');
-- Into a partition itself; a row of another one is refused there.
COPY p1 FROM STDIN;
1	directly
\.
COPY p1 FROM STDIN;
1	directly
2	elsewhere
\.
SELECT count(*) FROM p1;

-- What is refused.
CREATE FOREIGN TABLE one (n int, t text) SERVER adbpg OPTIONS (filepath 'copy/one', format 'csv');
COPY one FROM PROGRAM 'echo 1';
