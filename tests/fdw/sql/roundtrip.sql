-- What is written is read again the same, whatever the types, formats and settings.
\set endpoint `echo "$TM_OSSD"`
\set id `echo "$TM_OSSD_ID"`
\set key `echo "$TM_OSSD_SECRET"`
SET timezone = 'UTC';
CREATE SERVER adbpg FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint :'endpoint', bucket 'fdw-regress', region 'cn-test');
CREATE USER MAPPING FOR PUBLIC SERVER adbpg OPTIONS (id :'id', key :'key');
\i tests/support/mixed.sql
SELECT mixed_fill(2000);

-- Each format, compression and set of options; ft(name, options) makes a table like mixed.
CREATE FUNCTION ft(name text, options text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE FOREIGN TABLE %I (id bigint, n integer, amount numeric(14,4), at timestamptz, note text,
    ratio double precision, day date) SERVER adbpg OPTIONS (dir %L, %s)', name, 'roundtrip/' || name || '/', options);
END
$$;
CREATE FUNCTION same(options text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE name text := 'm_' || md5(options);
BEGIN
  PERFORM ft(name, options);
  EXECUTE format('INSERT INTO %I SELECT * FROM mixed', name);
  RETURN name;
END
$$;
CREATE TABLE written AS SELECT o, same(o) AS name FROM unnest(ARRAY[
  $$format 'csv'$$,
  $$format 'csv', header 'true', filetype 'gzip'$$,
  $$format 'csv', delimiter '|', quote '~', escape '\', "null" 'NULL'$$,
  $$format 'csv', force_quote_all 'true', filetype 'zstd'$$,
  $$format 'csv', encoding 'UTF8', delimiter '1'$$,
  $$format 'csv', encoding 'GB18030'$$,
  $$format 'text'$$,
  $$format 'text', delimiter '|', "null" '-', filetype 'gzip'$$,
  $$format 'text', delimiter ' ', encoding 'GB18030', filetype 'zstd'$$]) o;
SELECT o, mixed_hash(name::regclass) = mixed_hash('mixed') AS same FROM written;

-- Types beyond those, in a session whose settings would write other text.
CREATE TYPE mood AS ENUM ('sad', 'o,k', 'ha"ppy');
CREATE TYPE pair AS (a int, b text, c timestamptz);
CREATE DOMAIN small AS int CHECK (value < 100);
CREATE TABLE types (b bool, i2 int2, f4 float4, f8 float8, v varchar(10), c char(5), name name, by bytea, d date, t time,
  tz timetz, ts timestamp, at timestamptz, i interval, u uuid, j json, jb jsonb, ip inet, r int4range, bits bit(3),
  ints int[], texts text[], ats timestamptz[], m mood, p pair, s small);
INSERT INTO types VALUES
  (true, -32768, 1.1, 0.1::float8 + 0.2, E'a\\b\tc', 'ab', 'n', '\x00ff5c0a22', '0044-03-15 BC', '12:34:56.789',
   '12:34+05:30', '2020-02-29 23:59:59.999999', '2020-02-29 12:00:00.5+02', '1 year -2 mons 3 days -04:05:06.7',
   '00112233-4455-6677-8899-aabbccddeeff', '{"a": "b,c"}', '{"a": [1, "x\ny"]}', '10.0.0.1/8', '[1,5)', '101',
   '{1,NULL,3}', ARRAY['a,b', 'c"d', E'e\\f', NULL, 'NULL', ''], '{2020-01-01 00:00+00,infinity}', 'o,k',
   ROW(1, E'x"y\\z', '2001-02-03 04:05:06+08'), 5),
  (false, 32767, 'NaN', '-Infinity', '', '', '', '', 'infinity', '24:00', '00:00-12', '-infinity',
   '294276-12-31 23:59:59.999999+00', '-00:00:00.000001', NULL, 'null', 'null', '::1', 'empty', '000', '{}', '{}', '{}',
   'ha"ppy', ROW(NULL, '', NULL), 99),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   NULL, NULL, NULL, NULL, NULL, NULL);
CREATE FOREIGN TABLE types_csv (b bool, i2 int2, f4 float4, f8 float8, v varchar(10), c char(5), name name, by bytea, d date,
  t time, tz timetz, ts timestamp, at timestamptz, i interval, u uuid, j json, jb jsonb, ip inet, r int4range, bits bit(3),
  ints int[], texts text[], ats timestamptz[], m mood, p pair, s small)
  SERVER adbpg OPTIONS (dir 'roundtrip/types_csv/', format 'csv');
CREATE FOREIGN TABLE types_text (b bool, i2 int2, f4 float4, f8 float8, v varchar(10), c char(5), name name, by bytea, d date,
  t time, tz timetz, ts timestamp, at timestamptz, i interval, u uuid, j json, jb jsonb, ip inet, r int4range, bits bit(3),
  ints int[], texts text[], ats timestamptz[], m mood, p pair, s small)
  SERVER adbpg OPTIONS (dir 'roundtrip/types_text/', format 'text');
SET datestyle = 'SQL, DMY';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = -3;
SET bytea_output = 'escape';
INSERT INTO types_csv SELECT * FROM types;
INSERT INTO types_text SELECT * FROM types;
-- An output function that fails leaves the settings as they were.
CREATE FOREIGN TABLE fails (at timestamptz, r regclass) SERVER adbpg OPTIONS (dir 'roundtrip/fails/', format 'csv', encoding 'LATIN1');
CREATE TABLE "漢字" ();
INSERT INTO fails VALUES ('2020-02-29 12:00+00', '漢字');
SELECT current_setting('datestyle') AS datestyle, date '2020-02-29', interval '1 day -1 s', '\x00ff'::bytea, 0.1::float8 + 0.2 AS sum;
RESET datestyle;
RESET intervalstyle;
RESET extra_float_digits;
RESET bytea_output;
SELECT x1::text = x0::text AS csv, x2::text = x0::text AS text FROM types x0
  JOIN types_csv x1 ON x1.s IS NOT DISTINCT FROM x0.s JOIN types_text x2 ON x2.s IS NOT DISTINCT FROM x0.s ORDER BY x0.s;
CREATE FOREIGN TABLE lines (l text) SERVER adbpg OPTIONS (dir 'roundtrip/types_csv/', format 'csv', delimiter E'\x01', quote E'\x02');
SELECT l FROM lines;
