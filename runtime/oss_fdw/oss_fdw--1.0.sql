-- What CREATE EXTENSION oss_fdw makes.
\echo Use "CREATE EXTENSION oss_fdw" to load this file. \quit

CREATE FUNCTION oss_fdw_handler() RETURNS fdw_handler
  LANGUAGE C STRICT AS 'MODULE_PATHNAME';

CREATE FUNCTION oss_fdw_validator(text[], oid) RETURNS void
  LANGUAGE C STRICT AS 'MODULE_PATHNAME';

CREATE FOREIGN DATA WRAPPER oss_fdw
  HANDLER oss_fdw_handler VALIDATOR oss_fdw_validator;
