--- `tidemill completion bash|zsh`: a script that makes the Tab key work.

local errors = require "tidemill.errors"

local function run(_, args)
  if args[1] ~= "bash" and args[1] ~= "zsh" then
    errors.usage(("completion: bash or zsh wanted, got '%s'"):format(args[1]))
  end
  io.stdout:write((require("tidemill.completion." .. args[1])))
  return 0
end

return {
  name = "completion",
  summary = "print the script that completes commands, flows and runs at a shell",
  usage = "bash|zsh",
  args = { 1, 1 },
  about = [[
`make install` installs both. Otherwise, for this shell:

    source <(tidemill completion bash)
    source <(tidemill completion zsh)      # behind: autoload -U compinit; compinit

Completed are commands, options and their values, files, names of published flows, ids of runs,
names of nodes, and what --set may set.]],
  options = {},
  run = run,
}
