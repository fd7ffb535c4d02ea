return [[
# Connections

A flow names its connections; the project file `tidemill.lua` defines them. It is found by
walking up from the flow, then from the working directory.

    return {
      connections = {
        rds   = { postgres = env "RDS_URL" },
        adbpg = { postgres = "service=adbpg" },
        lake  = { oss = "oss://my-bucket/etl", endpoint = "oss-cn-hangzhou-internal.aliyuncs.com" },
      },
      pools    = { rds = 4 },                   -- at most four node attempts at once on rds
      state    = "sqlite:.tidemill/state.db",   -- of the runs; relative to this file
      timezone = "Asia/Shanghai",               -- of flows that name none (default "UTC")
    }

With `state = env "STATE_URL"`, a URI or conninfo of PostgreSQL (11 or later), several hosts may run flows; the
tables lie in its schema "tidemill", made on first use.

`env "NAME"` is an environment variable, `env("NAME", "default")` has a default, and
"postgres://app:" .. env "PW" .. "@host/db" joins. A variable that is not set is an error only when its connection
is used, so `check` and `plan` need none.

## PostgreSQL

`postgres` is anything that libpq takes: a URI (postgres://user@host:5432/db?sslmode=verify-full),
key=value pairs, or service=NAME of pg_service.conf. Passwords may stay in ~/.pgpass. RDS for
PostgreSQL, AnalyticDB for PostgreSQL and Greenplum are reached the same way.

## Object stores

One of `oss` (Alibaba Cloud OSS), `s3` (Amazon S3 and compatible) or `file` (a directory):

    oss, s3            "oss://bucket/prefix", "s3://bucket/prefix"
    file               a directory that exists, relative to tidemill.lua
    endpoint           host, or URL with scheme and port
    region             such as "cn-hangzhou"
    addressing         auto, virtual, path or cname
    signature          v4 (default) or v1 (OSS only)
    access_key_id, access_key_secret, security_token
    profile            of the credential files
    role_name          of the instance role
    ca_file            certificates to trust besides the system's
    proxy, anonymous, connect_timeout, stall_timeout, attempts, retry_time

Keys come from the fields above, else from the environment (OSS_ACCESS_KEY_ID,
OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN), else from ~/.ossutilconfig or ~/.aws/credentials, else from the metadata of
the instance. They are never written to state, logs, plans or messages.

A place in a store is "connection:path/", such as "lake:orders/${day}/".

## Webhooks

`webhook` is a URL that a flow's on_success, on_failure and on_late may name (`tidemill help hooks`):

    alerts = { webhook = env "ALERTS_URL", secret = env "ALERTS_SECRET" }

    secret             signs what is sent; "whsec_" and base64, or any text
    ca_file, proxy     as of object stores

E-mail goes through `sendmail = "/usr/sbin/sendmail"`, a field beside `connections`.
]]
