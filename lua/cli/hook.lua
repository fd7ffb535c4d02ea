--- `tidemill hook`: sends one notice, started by a runner; see lua/hooks.lua. The job is JSON
--- on standard input, the outcome JSON on standard output.

local function run()
  local json = require "json"
  local outcome = require "tidemill.hooks.send".run(json.decode(io.stdin:read "a"))
  io.stdout:write(json.encode(outcome), "\n")
  return 0
end

return {
  name = "hook",
  summary = "send one notice (started by the runner, not by hand)",
  hidden = true,
  options = {},
  run = run,
}
