--- `tidemill help [TOPIC]`: the table of commands, a command's --help, a module, a topic.

local docs = require "tidemill.docs"
local embedded = require "tidemill.embedded"
local errors = require "tidemill.errors"
local options = require "tidemill.cli.options"
local suggest = require "tidemill.suggest"

local TOPICS = {
  { "flow-file", "how a flow is written" },
  { "variables", "${name}, time formats and offsets" },
  { "schedules", "cron, every, once, after other flows" },
  { "policies", "failures, retries, triggers, conditions, hooks" },
  { "exactly-once", "what is never done twice, and the ledger" },
  { "checks", "verify, reject, on_drift: rows compared, set aside; columns that change" },
  { "hooks", "webhooks, commands and e-mail about runs" },
  { "connections", "tidemill.lua: databases, object stores, webhooks" },
  { "extracts", "what is read in which moment, by how many sessions, and its price" },
  { "incremental", "watermarks: each run takes what is new, none skipped, none twice" },
  { "formats", "what the objects hold" },
  { "loads", "modes of flow.load, jobs, loads beside their extract" },
  { "warehouse", "tables that loads make; AnalyticDB, Greenplum, oss_fdw" },
  { "exit-codes", "what the exit code tells" },
  { "environment", "variables that are read" },
  { "oss_fdw", "the PostgreSQL extension: foreign tables on objects" },
  { "dms", "for those who come from DMS task flows" },
}

-- The text of a file of the Lua half, from TIDEMILL_LUA if that is set.
local function source(path)
  local dir = os.getenv "TIDEMILL_LUA"
  if not dir then return embedded.source(path) end
  local file <close> = io.open(dir .. "/" .. path, "rb")
  return file and file:read "a"
end

local function module_page(name)
  local text = name:match "^[%w_]+$" and source("stdlib/" .. name .. ".lua")
  return text and docs.parse(text)
end

local function module_names()
  local names = {}
  for _, path in ipairs(embedded.names()) do names[#names + 1] = path:match "^stdlib/([%w_]+)%.lua$" end
  table.sort(names)
  return names
end

local function add_table(out, title, rows, width)
  out[#out + 1] = ""
  out[#out + 1] = title
  width = width or 0
  for _, row in ipairs(rows) do width = math.max(width, #row[1]) end
  for _, row in ipairs(rows) do
    local text = options.wrap(row[2], 90 - width, (" "):rep(width + 4))
    out[#out + 1] = ("  %-" .. width .. "s  %s"):format(row[1], text)
  end
end

local function overview()
  local main = require "tidemill.main"
  local out = { "tidemill moves rows from PostgreSQL through object storage into PostgreSQL, by flows",
    "written in Lua.", "", "usage: tidemill COMMAND [ARG...]" }
  local modules, width = {}, 0
  for _, name in ipairs(main.commands) do width = math.max(width, #name) end
  out[#out + 1] = ""
  out[#out + 1] = "commands (tidemill COMMAND --help):"
  for _, group in ipairs(main.groups) do
    local rows = {}
    for i = 2, #group do
      local command = main.command(group[i])
      if not command.hidden then rows[#rows + 1] = { group[i], command.summary } end
    end
    add_table(out, group[1], rows, width)
  end
  for _, name in ipairs(module_names()) do
    modules[#modules + 1] = { name, docs.summary(module_page(name)) }
  end
  add_table(out, "topics (tidemill help TOPIC):", TOPICS)
  add_table(out, "Lua modules (tidemill help MODULE):", modules)
  return table.concat(out, "\n") .. "\n"
end

local function page_of(topic)
  local main = require "tidemill.main"
  local command = main.command(topic)
  if command then return command.page and command.page() or options.help(command) end
  for _, one in ipairs(TOPICS) do
    if one[1] == topic then return require("tidemill.help." .. topic) end
  end
  local page = module_page(topic)
  if page then return docs.render(topic, page) end
  local names, shown = module_names(), main.shown()
  table.move(shown, 1, #shown, #names + 1, names)
  for _, one in ipairs(TOPICS) do names[#names + 1] = one[1] end
  errors.usage(("no help on '%s'"):format(topic),
    suggest.nearest(topic, names) and suggest.hint(topic, names) or "see 'tidemill help'")
end

local function run(opts, args)
  if opts.man then
    io.stdout:write(require "tidemill.manual".page(TOPICS))
  else
    io.stdout:write(args[1] and page_of(args[1]) or overview())
  end
  return 0
end

-- Topics and modules, each with what it is; for completion.
local function topics()
  local list = table.move(TOPICS, 1, #TOPICS, 1, {})
  for _, name in ipairs(module_names()) do list[#list + 1] = { name, docs.summary(module_page(name)) } end
  return list
end

return {
  name = "help",
  summary = "explain a command, a module or a topic",
  usage = "[TOPIC]",
  args = { 0, 1 },
  about = "Without a topic: the commands, the topics and the Lua modules.",
  options = { { name = "man", help = "print the manual page tidemill(1), in roff" } },
  topics = topics,
  run = run,
}
