--- A day of orders: from the shop's database, masked, through the lake into the warehouse,
--- and summed up there.
---
---     prepare warehouse ----------\
---     orders to the lake ----------> orders into the warehouse -> daily revenue -> report
---
--- A Lua map drops test orders and masks e-mail addresses before anything leaves the
--- source's network. The objects are gzip, each of about 128 kB. The source needs
---
---     CREATE TABLE orders (id bigint, customer text, email text, amount numeric(12,2),
---       quantity int, note text, created_at timestamptz);
---
--- `tidemill run scripts/orders_to_warehouse.lua` moves yesterday's orders, with
--- --at "2026-01-02" those of the first of January. scripts/tidemill.lua names the
--- environment variables of the connections.

local flow = require "flow"

--- "ann.lee@example.com" becomes "a***@example.com"; NULL, which is no string, stays NULL.
local function mask(email)
  if type(email) ~= "string" then return email end
  return (email:gsub("^(.).*(@.*)$", "%1***%2"))
end

return flow "Orders to the warehouse" {
  schedule    = { cron = "0 30 1 * * ?", timezone = "Asia/Shanghai" },
  on_error    = "continue",
  concurrency = "queue",
  missed      = { "all", window = "3d" },
  owner       = "data team",
  tags        = { "orders", "daily" },

  vars = {
    day      = flow.time "yyyy-MM-dd",
    next_day = flow.time("yyyy-MM-dd", "+1d"),
  },
  constants = { warehouse = "dw" },

  flow.sql "prepare warehouse" {
    on  = "adbpg",
    sql = [[
      CREATE SCHEMA IF NOT EXISTS ${warehouse};
      CREATE TABLE IF NOT EXISTS ${warehouse}.orders (
        id bigint, customer text, email text, amount numeric(12,2),
        quantity int, note text, created_at timestamptz);
      CREATE TABLE IF NOT EXISTS ${warehouse}.revenue (
        day date, orders bigint, amount numeric(16,2));
      DELETE FROM ${warehouse}.orders
        WHERE created_at >= '${day} 00:00:00+08' AND created_at < '${next_day} 00:00:00+08';
    ]],
  },

  flow.extract "orders to the lake" {
    from  = "rds",
    query = [[
      SELECT id, customer, email, amount, quantity, note, created_at
        FROM orders
       WHERE created_at >= '${day} 00:00:00+08' AND created_at < '${next_day} 00:00:00+08'
       ORDER BY id
    ]],
    to = "lake:orders/${day}/",

    map = function(row)
      if row.customer == "test" then return nil end -- a test order: leave it out
      row.email = mask(row.email)
      return row
    end,

    format      = "csv",
    header      = true,
    compress    = "gzip",
    object_size = "128kB",
    retries     = 3,
    retry_delay = "30s",
  },

  flow.load "orders into the warehouse" {
    after   = { "prepare warehouse", "orders to the lake" },
    from    = "lake:orders/${day}/",
    on      = "adbpg",
    into    = "${warehouse}.orders",
    retries = 3,
    timeout = "2h",
  },

  flow.sql "daily revenue" {
    after = "orders into the warehouse",
    on    = "adbpg",
    sql   = {
      "DELETE FROM ${warehouse}.revenue WHERE day = '${day}'",
      [[INSERT INTO ${warehouse}.revenue
        SELECT '${day}'::date, count(*), coalesce(sum(amount), 0) FROM ${warehouse}.orders
         WHERE created_at >= '${day} 00:00:00+08' AND created_at < '${next_day} 00:00:00+08']],
      "ANALYZE ${warehouse}.orders",
    },
  },

  flow.lua "report" {
    after = "daily revenue",
    run = function(ctx)
      local conn <close> = ctx:postgres "adbpg"
      local row = conn:one("SELECT day::text, orders, amount::text FROM dw.revenue ORDER BY day DESC LIMIT 1")
      ctx:log("info", "%s: %d orders, %s in all", row.day, row.orders, row.amount)
    end,
  },
}
