--- COPY to nowhere: what the client costs by itself. Run by `tidemill exec`.

local pg = require "pg"
local stream = require "stream"

local conn <close> = pg.connect(os.getenv "RDS_URL")
stream.pump(conn:copy_out "COPY mixed TO STDOUT", stream.discard())
