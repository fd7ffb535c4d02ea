-- ANALYZE samples the rows of whole objects.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
\setenv put 'exec "$TM_BIN" exec tests/fdw/put.lua'
CREATE SERVER rds FOREIGN DATA WRAPPER oss_fdw OPTIONS (host :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER rds OPTIONS (id :'id', key :'key');
\! for i in 1 2 3 4; do seq $i 4 200000 | sed 's/$/,abcdefgh/' | sh -c "$put analyze/$i.csv"; done
\! seq 1 200000 | sed 's/$/,abcdefgh/' | sh -c "$put analyzegz/1.csv.gz gzip"
CREATE FOREIGN TABLE f (n int, t text) SERVER rds OPTIONS (dir 'analyze/', format 'csv');
CREATE FOREIGN TABLE g (n int, t text) SERVER rds OPTIONS (dir 'analyzegz/', format 'csv', compressiontype 'gzip');
CREATE VIEW stats AS SELECT relname, reltuples, relpages BETWEEN 30 AND 400 AS pages, n_distinct, null_frac, most_common_vals::text::text[] AS common
  FROM pg_class JOIN pg_stats ON relname = tablename WHERE attname = 't' AND relkind = 'f';
ANALYZE f, g;
SELECT * FROM stats ORDER BY 1;
SELECT count(*), min(n_distinct) FROM pg_stats WHERE attname = 'n' AND tablename IN ('f', 'g');
-- Only so many megabytes are read; the rest is scaled.
SET oss_fdw.analyze_size = '1MB';
SET client_min_messages = 'error';
ANALYZE f, g;
RESET client_min_messages;
SELECT relname, reltuples BETWEEN 150000 AND 250000 AS about, n_distinct, common FROM stats ORDER BY 1;
RESET oss_fdw.analyze_size;
-- The progress view shows ANALYZE, not COPY; nothing to analyze is fine; a bad row is an error.
ALTER FOREIGN TABLE f OPTIONS (SET dir 'analyze/none/');
ANALYZE f;
ALTER FOREIGN TABLE f OPTIONS (SET dir 'analyze/');
ALTER FOREIGN TABLE f ALTER t TYPE int;
ALTER FOREIGN TABLE f OPTIONS (DROP dir, ADD filepath 'analyze/1.csv');
ANALYZE f;
