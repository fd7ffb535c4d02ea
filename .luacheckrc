std = "lua54"
max_line_length = 120
exclude_files = { "build" }
files["tests"] = { globals = { "/^Test/" }, allow_defined_top = true, self = false, max_line_length = 140 }
files["stdlib"] = { ignore = { "212", "211/_.*", "241" } } -- definition files: stubs use no argument
files["lua/cli/exec.lua"] = { globals = { "arg" } } -- as the lua program does
files["tests/bench"] = { read_globals = { "arg" } } -- scripts that `tidemill exec` runs
files["**/tidemill.lua"] = { read_globals = { "env" } } -- given to project files
