return [[
# Environment

    OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN     keys of oss:// stores
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN     keys of s3:// stores
    PGHOST, PGUSER, PGPASSFILE, PGSERVICEFILE, PGSSLMODE ...        as for every libpq program
    TIDEMILL_HISTORY    the file of the repl's history (default ~/.tidemill_history); empty: none
    TIDEMILL_LUA        load the Lua files of tidemill from this directory instead of the binary
    TIDEMILL_TRACEBACK  set: show where in Lua an error arose

What else a project needs is up to its `tidemill.lua`, by env "NAME".
]]
