--- `tidemill node`: one node attempt, started by a runner; see lua/node.lua.

return {
  name = "node",
  summary = "run one node attempt (started by the runner, not by hand)",
  usage = "FLOW.lua NODE",
  args = { 0, 2 },
  hidden = true,
  options = {},
  run = function() return require("tidemill.node").run() end,
}
