-- tables.sql: the tables of the benchmark beside tests/support/mixed.sql, each with a function
-- that fills it
--
--   narrow   two integers, about 15 bytes a row in COPY's text form
--   wide     a hundred columns of ten types, about 1 KB a row
--   many     for memory: some 110 bytes a row that cost the server little

CREATE TABLE narrow (id integer, n integer);

CREATE FUNCTION narrow_fill(wanted bigint) RETURNS void LANGUAGE sql AS $$
  INSERT INTO narrow SELECT i, i * 7919 % 2000001 - 1000000 FROM generate_series(1, wanted) i;
$$;

DO $$
DECLARE
  types text[] := '{integer,bigint,"numeric(14,2)",text,timestamptz,double precision,date,boolean,text,smallint}';
BEGIN
  EXECUTE (SELECT format('CREATE TABLE wide (%s)', string_agg(format('c%s %s', c, types[(c - 1) % 10 + 1]), ', '
    ORDER BY c)) FROM generate_series(1, 100) c);
END
$$;

CREATE FUNCTION wide_fill(wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  values_of text[] := ARRAY['(i * 31 + %s) %% 1000003', 'i * 1000003 + %s', '(i + %s) %% 1000003 / 7.0',
    '''text '' || i %% 1000 || ''%s''', 'timestamptz ''2020-02-28 23:59:59+00'' + (i + %s) * interval ''61 seconds''',
    '(i + %s) / 3.0::double precision', 'date ''1999-12-31'' + ((i + %s) %% 20000)::integer', '(i + %s) %% 3 = 0',
    'CASE WHEN i %% 5 = 0 THEN NULL ELSE ''item %s'' END', '(i + %s) %% 32768'];
BEGIN
  EXECUTE (SELECT format('INSERT INTO wide SELECT %s FROM generate_series(1::bigint, %s) i',
    string_agg(format(values_of[(c - 1) % 10 + 1], c), ', ' ORDER BY c), wanted) FROM generate_series(1, 100) c);
END
$$;

CREATE UNLOGGED TABLE many (id bigint, n integer, note text);

CREATE FUNCTION many_fill(wanted bigint) RETURNS void LANGUAGE sql AS $$
  INSERT INTO many SELECT i, i % 1000, encode(sha384(int8send(i)), 'hex') FROM generate_series(1, wanted) i;
$$;
