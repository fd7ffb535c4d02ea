--- The project file of the flows in this folder.
---
--- Each value comes from the environment; `make demo` sets these variables:
---
---     RDS_URL        the source:  postgres://user:password@host:port/database
---     ADBPG_URL      the target:  postgres://user:password@host:port/database
---     LAKE_URL       the bucket:  oss://bucket or oss://bucket/prefix
---     LAKE_ENDPOINT  its host:    oss-cn-hangzhou-internal.aliyuncs.com, http://127.0.0.1:9000
---     LAKE_REGION    its region:  cn-hangzhou
---     OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET
---
--- For a real RDS, OSS and ADBPG export the same names with your addresses. Passwords may
--- also stay in ~/.pgpass, keys in ~/.ossutilconfig.

return {
  connections = {
    rds   = { postgres = env "RDS_URL" },
    adbpg = { postgres = env "ADBPG_URL" },
    lake  = {
      oss        = env "LAKE_URL",
      endpoint   = env "LAKE_ENDPOINT",
      region     = env("LAKE_REGION", "cn-hangzhou"),
      addressing = env("LAKE_ADDRESSING", "auto"),
    },
  },
  state    = "sqlite:.tidemill/state.db",
  timezone = "Asia/Shanghai",
}
