-- What CREATE EXTENSION oss_fdw makes.
\echo Use "CREATE EXTENSION oss_fdw" to load this file. \quit

CREATE FUNCTION oss_fdw_handler() RETURNS fdw_handler
  LANGUAGE C STRICT AS 'MODULE_PATHNAME';

CREATE FUNCTION oss_fdw_validator(text[], oid) RETURNS void
  LANGUAGE C STRICT AS 'MODULE_PATHNAME';

CREATE FOREIGN DATA WRAPPER oss_fdw
  HANDLER oss_fdw_handler VALIDATOR oss_fdw_validator;

-- functions.c: the objects of a foreign table; rows that its scans rejected.
CREATE FUNCTION oss_fdw_list_file(relname text, schema text DEFAULT 'public')
  RETURNS TABLE (name text, size bigint)
  LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME';

CREATE FUNCTION get_oss_table_meta(
    ft text, OUT name text, OUT size bigint, OUT etag text, OUT modified timestamptz)
  RETURNS SETOF record
  LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME';

CREATE FUNCTION gp_read_error_log(
    exttable text, OUT cmdtime timestamptz, OUT relname text, OUT filename text,
    OUT linenum bigint, OUT bytenum bigint, OUT errmsg text, OUT rawdata text, OUT rawbytes bytea)
  RETURNS SETOF record
  LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME';

CREATE FUNCTION gp_truncate_error_log(exttable text) RETURNS boolean
  LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME';

-- sweep.c: removes what transactions that did not commit left where the table's objects are, and
-- uploads of unknown origin that are older; for the table's owner.
CREATE FUNCTION oss_fdw_sweep(ft regclass, older_than interval DEFAULT '1 day')
  RETURNS TABLE (kind text, name text, started timestamptz)
  LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME';
