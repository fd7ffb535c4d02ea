--- The manual page tidemill(1), in the macros of man(7), from the tables of the commands.
---
--- Nothing is written here that the commands' own help has: their usage, text and options are
--- turned into roff. Every text is escaped, so none can begin a request.

local manual = {}

local ESCAPES = { ["\\"] = "\\e", ["-"] = "\\-", ["'"] = "\\(aq", ["`"] = "\\(ga", ["^"] = "\\(ha", ["~"] = "\\(ti" }

-- A line of text: no backslash, no hyphen that becomes another sign, no request.
local function escaped(line)
  line = line:gsub("[\\%-'`^~]", ESCAPES)
  return (line:gsub("^%.", "\\&."))
end

-- An argument of a macro.
local function quoted(text) return '"' .. escaped(text):gsub('"', '""') .. '"' end

local function add(out, ...) out[#out + 1] = (...) and table.concat({ ... }, " ") or nil end

-- Text as --help prints it: paragraphs, and indented lines as they stand.
local function add_text(out, text)
  local literal = false
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    local indented = line:find "^    " ~= nil
    if indented ~= literal and line ~= "" then
      add(out, indented and ".PP\n.RS 4\n.nf" or ".fi\n.RE\n.PP")
      literal = indented
    end
    if line == "" then
      if not literal then add(out, ".PP") else add(out, "") end
    else
      add(out, escaped(literal and line:sub(5) or line))
    end
  end
  if literal then add(out, ".fi\n.RE") end
end

-- No two paragraph requests in a row, none before a heading, no empty lines outside literal text.
local function tidy(out)
  local lines, kept, literal = {}, {}, false
  for line in (table.concat(out, "\n") .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  for i, line in ipairs(lines) do
    if line == ".nf" then literal = true elseif line == ".fi" then literal = false end
    local next_line, last = lines[i + 1] or ".SH", kept[#kept] or ""
    local idle = line == ".PP" and (next_line:find "^%.PP" or next_line:find "^%.S[HS]" or next_line:find "^%.TP"
      or last:find "^%.S[HS]" or last == ".PP")
    if not idle and (line ~= "" or literal) then kept[#kept + 1] = line end
  end
  return table.concat(kept, "\n") .. "\n"
end

local function option_text(option)
  local text = option.help
  if option.choices then text = text .. ": " .. table.concat(option.choices, ", ") end
  if option.default ~= nil then text = ("%s (default %s)"):format(text, tostring(option.default)) end
  return text
end

local function add_options(out, list)
  for _, option in ipairs(list) do
    add(out, ".TP")
    local words = { option.short and ("\\fB\\-%s\\fR, "):format(option.short) or "",
      ("\\fB\\-\\-%s\\fR"):format(escaped(option.name)),
      option.value and (" \\fI%s\\fR"):format(escaped(option.value)) or "" }
    add(out, table.concat(words))
    add(out, escaped(option_text(option)))
  end
end

local function add_command(out, name, command)
  local usage = ("tidemill %s %s"):format(name, command.usage or ""):gsub("%s+$", "")
  add(out, ".SS", quoted(usage))
  local summary = command.summary
  add(out, escaped(summary:sub(1, 1):upper() .. summary:sub(2) .. "."))
  add(out, ".PP")
  if command.about then add_text(out, command.about) end
  add_options(out, command.options or {})
end

--- The page.
---@param topics string[][]  of `tidemill help`: name, what it is
---@return string
function manual.page(topics)
  local main, out = require "tidemill.main", {}
  local version = require("tidemill.embedded").version
  local epoch = math.tointeger(os.getenv "SOURCE_DATE_EPOCH") -- of reproducible builds
  local date = os.date("!%Y-%m-%d", epoch or os.time())
  add(out, ".TH TIDEMILL 1", date, quoted("tidemill " .. version), '"User Commands"')
  add(out, ".nh\n.ad l") -- names of commands and options stay whole
  add(out, ".SH NAME\ntidemill \\- moves rows by flows written in Lua")
  add(out, ".SH SYNOPSIS\n.B tidemill\n.I COMMAND\n.RI [ OPTION .\\|.\\|.] \" \" [ ARGUMENT .\\|.\\|.]")
  add(out, ".SH DESCRIPTION")
  add_text(out, [[
tidemill moves rows out of PostgreSQL, through object storage, into an analytical PostgreSQL. What
moves, in which order and on which schedule is a flow, a Lua script. Connections are defined in a
project file tidemill.lua beside the flows. "tidemill help" lists the topics and modules of the
manual; "tidemill COMMAND --help" prints what stands below.]])
  for _, group in ipairs(main.groups) do
    local commands = {}
    for i = 2, #group do
      local command = main.command(group[i])
      if not command.hidden then commands[#commands + 1] = { group[i], command } end
    end
    if #commands > 0 then
      add(out, ".SH", quoted("COMMANDS: " .. group[1]:upper()))
      for _, one in ipairs(commands) do add_command(out, one[1], one[2]) end
    end
  end
  add(out, ".SH EXIT STATUS")
  for _, row in ipairs { { "0", "success" }, { "1", "a run failed" }, { "2", "wrong usage, or an invalid flow" },
    { "3", "no connection could be made" }, { "130", "interrupted" } } do
    add(out, ".TP\n.B", row[1])
    add(out, row[2])
  end
  add(out, ".SH FILES")
  add(out, ".TP\n.I tidemill.lua\nThe project: connections, pools, state store, default time zone. Found by walking up")
  add(out, "from the flow, then from the working directory.")
  add(out, ".TP\n.I .tidemill/state.db\nThe state store, unless tidemill.lua names another.")
  add(out, ".SH SEE ALSO\nTopics of")
  add(out, ".BR \"tidemill help\" :")
  local names = {}
  for i, topic in ipairs(topics) do names[i] = escaped(topic[1]) end
  add(out, table.concat(names, ",\n") .. ".")
  return tidy(out)
end

return manual
