-- mixed.sql: a table of seven mixed columns, rows for it, and a hash to compare two of them
--
--   SELECT mixed_fill(5000000)        fills the table `mixed`; the same rows for the same count
--   SELECT * FROM mixed_hash('mixed') count and hash of a table of this shape
--
-- The text holds what breaks a careless reader: delimiters, quotes, line ends, tabs,
-- backslashes, the words that stand for NULL, empty strings, NULL itself, non-ASCII. About
-- 90 bytes a row in COPY's text form.

CREATE TABLE mixed (
  id bigint, n integer, amount numeric(14,4), at timestamptz, note text,
  ratio double precision, day date);

CREATE FUNCTION mixed_fill(wanted bigint) RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO mixed
  SELECT i * 1000003,
    CASE WHEN i % 97 = 0 THEN NULL ELSE (i * 7919 % 2000001 - 1000000)::integer END,
    CASE WHEN i % 89 = 0 THEN NULL ELSE ((i * 31337 % 100000007) / 7.0 - 5000000)::numeric(14,4) END,
    CASE WHEN i % 83 = 0 THEN NULL
      ELSE timestamptz '2020-02-28 23:59:59.999999+00' + i * interval '61.000001 seconds' END,
    CASE i % 16
      WHEN 0 THEN NULL
      WHEN 1 THEN ''
      WHEN 2 THEN 'comma, pipe | semicolon ; tab ' || E'\t' || ' end ' || i
      WHEN 3 THEN 'say "hi", don''t "" "' || i || '"'
      WHEN 4 THEN E'two\nlines, ' || i
      WHEN 5 THEN E'carriage\r\nreturn\r' || i
      WHEN 6 THEN E'back\\slash \\n \\\\ ' || i
      WHEN 7 THEN 'žluťoučký kůň 漢字 🌊 ' || i
      WHEN 8 THEN '\N'
      WHEN 9 THEN '\.'
      WHEN 10 THEN 'NULL'
      WHEN 11 THEN ' spaces at both ends '
      ELSE md5(i::text) || ' order ' || i
    END,
    CASE WHEN i % 79 = 0 THEN NULL WHEN i % 1009 = 0 THEN 'NaN' WHEN i % 1013 = 0 THEN '-Infinity'
      ELSE i / 3.0::double precision END,
    CASE WHEN i % 73 = 0 THEN NULL ELSE date '1999-12-31' + (i % 20000)::integer END
  FROM generate_series(1, wanted) i;
  SELECT count(*) FROM mixed;
$$;

-- The sum of the rows' hashes does not depend on their order, and a row too few, too many or
-- changed moves it. The hash is of the row as text, so 1.50 and 1.5 differ.
CREATE FUNCTION mixed_hash(which regclass, OUT count bigint, OUT hash numeric) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM %s t', which)
    INTO count, hash;
END
$$;
