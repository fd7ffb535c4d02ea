std = "lua54"
max_line_length = 110
exclude_files = { "build" }
files["tests"] = { globals = { "/^Test/" }, allow_defined_top = true }
files["stdlib"] = { ignore = { "212", "211/_.*", "241" } } -- definition files: stubs use no argument
