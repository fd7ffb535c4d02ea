-- The extension comes, moves and goes as a whole.
SELECT fdwname, fdwhandler::regproc, fdwvalidator::regproc FROM pg_foreign_data_wrapper;
DROP EXTENSION oss_fdw;
SELECT fdwname FROM pg_foreign_data_wrapper;
CREATE SCHEMA lake;
CREATE EXTENSION oss_fdw SCHEMA lake;
SELECT fdwname, fdwhandler::regproc, fdwvalidator::regproc FROM pg_foreign_data_wrapper;
ALTER EXTENSION oss_fdw SET SCHEMA public;
SELECT fdwname, fdwhandler::regproc, fdwvalidator::regproc FROM pg_foreign_data_wrapper;
-- Only a superuser makes a server, until the right is granted.
CREATE ROLE regress_fdw_user;
SET ROLE regress_fdw_user;
CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'h.example', bucket 'b');
RESET ROLE;
DROP ROLE regress_fdw_user;
