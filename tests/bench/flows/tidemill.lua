--- The connections of the benchmark's flows; tests/bench/run sets the variables.

return {
  connections = {
    rds   = { postgres = env "RDS_URL" },
    adbpg = { postgres = env "ADBPG_URL" },
    lake  = { oss = env "LAKE_URL", endpoint = env "LAKE_ENDPOINT", region = "cn-test", addressing = "path" },
  },
}
