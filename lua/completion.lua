--- What the Tab key offers at a shell, from the tables of the commands and the state store.
---
--- The shells' parts (lua/completion/*.lua) are thin: at each Tab they call the hidden command
--- `complete` with the words of the line, so what is offered always fits the binary. An
--- argument's kind is the word that stands for it in the usage of its command: FLOW, RUN, NODE
--- ... Nothing here writes, and nothing that fails is told.

local completion = {}

local MOST_RUNS = 50

---@class tidemill.Candidate
---@field [1] string   the word
---@field [2]? string  what it is

---@class tidemill.Offer
---@field words tidemill.Candidate[]
---@field files? string  files, too: "*" or an extension such as "lua"
---@field open? boolean  the word goes on: no blank behind it

-- ---- what there is ----

-- The state store, if there is one already.
local function with_store(f)
  local project = require "tidemill.project".open()
  local kind, where = project:state()
  if kind == "sqlite" and not io.open(where) then return {} end
  local store <close> = require "tidemill.launch".store(project, true)
  return f(store)
end

local function flow_names(line)
  return with_store(function(store)
    local found, seen = {}, {}
    for i, flow in ipairs(store:flows()) do found[i], seen[flow.flow] = { flow.flow, flow.file }, true end
    for _, name in ipairs(line.command.name == "watermark" and store:flows_with_facts() or {}) do
      if not seen[name] then found[#found + 1] = { name, "not published" } end
    end
    return found
  end)
end

local function run_ids(_, word)
  return with_store(function(store)
    local found = { { "last", "the newest run" } }
    for _, run in ipairs(store:runs { limit = MOST_RUNS }) do
      local about = ("%s, %s"):format(run.flow, run.state)
      local short = run.id:sub(-6)
      if word ~= "" and short:sub(1, #word) == word then
        found[#found + 1] = { short, about }
      else
        found[#found + 1] = { run.id, about }
      end
    end
    return found
  end)
end

local function model_of(path) return require "tidemill.launch".load(path) end

-- The document of the published flow, or the run, that the line names.
local function document_of(store, line)
  local hash = line.command.name == "rerun" and store:find_run(line.args[1]).version or store:flow(line.args[1]).hash
  return store:source(hash).document
end

-- The commands whose nodes are those of a published flow.
local OF_FLOW = { trigger = true, backfill = true }

-- Nodes of the file, the flow or the run that the line names.
local function node_names(line)
  local first, found = line.args[1], {}
  if not first then return found end
  if first:find "%.lua$" then
    for i, node in ipairs(model_of(first).nodes) do found[i] = { node.name, node.kind } end
    return found
  end
  return with_store(function(store)
    if line.command.name == "watermark" then
      for i, fact in ipairs(store:facts(first)) do found[i] = { fact.node, fact.name } end
      return found
    end
    if OF_FLOW[line.command.name] then
      for i, node in ipairs(document_of(store, line).nodes) do found[i] = { node.name, node.kind } end
      return found
    end
    for i, node in ipairs(store:nodes(store:find_run(first).id)) do
      found[i] = { node.node, ("%s, %s"):format(node.kind, node.state) }
    end
    return found
  end)
end

-- "name=" of what --set may set.
local function settable(line)
  local document, found = require "tidemill.document", {}
  local made
  if line.args[1] and line.args[1]:find "%.lua$" then
    made = document.of(model_of(line.args[1]))
  elseif line.args[1] then
    made = with_store(function(store) return document_of(store, line) end)
  end
  for name, param in pairs(made and made.params or {}) do
    found[#found + 1] = { name .. "=", param.description or "param" }
  end
  for _, name in ipairs(made and made.settable or {}) do found[#found + 1] = { name .. "=", "variable" } end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return found, true
end

local function version_numbers(line)
  if not line.args[1] then return {} end
  return with_store(function(store)
    local found = {}
    for i, version in ipairs(store:versions(line.args[1])) do
      found[i] = { tostring(version.number), version.comment or ("published by %s"):format(version.published_by) }
    end
    return found
  end)
end

local function command_names()
  local main, found = require "tidemill.main", {}
  for i, name in ipairs(main.shown()) do found[i] = { name, main.command(name).summary } end
  return found
end

local function topics()
  local found = command_names()
  for _, topic in ipairs(require "tidemill.cli.help".topics()) do found[#found + 1] = topic end
  return found
end

-- "lake:" for each object store of the project.
local function locations()
  local found = {}
  for name, connection in pairs(require "tidemill.project".open().connections) do
    if connection.wants == "store" then found[#found + 1] = { name .. ":", connection.kind } end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return found, true
end

-- By the word that stands for a value: what there is, or the files to offer.
local KINDS = {
  FLOW = flow_names, RUN = run_ids, NODE = node_names, TOPIC = topics, LOCATION = locations, ["NAME=VALUE"] = settable,
  A = version_numbers, B = version_numbers, VERSION = version_numbers,
  ["FLOW.lua"] = "lua", ["SCRIPT.lua"] = "lua", ["FLOW_test.lua"] = "lua", FILE = "*", FOLDER = "*", DIR = "*",
  ARG = "*",
}

-- ---- the line ----

-- The option that a word is, and the value written with it.
local function option_of(command, word)
  local name, value = word:match "^(%-%-[^=]+)=(.*)$"
  name = name or word
  for _, option in ipairs(command.options or {}) do
    if name == "--" .. option.name or option.short and name == "-" .. option.short then return option, value end
  end
end

-- The kinds of the arguments by position, each a list; the last one again for all further ones if
-- it stands with "...".
local function kinds_of(usage)
  local kinds = {}
  for token in (usage or ""):gmatch "%S+" do
    if token:sub(1, 2) == "--" then break end
    local alternatives, bare = {}, token:gsub("[%[%]]", "")
    kinds.rest = bare:find "%.%.%.$" ~= nil
    for word in bare:gsub("%.%.%.$", ""):gmatch "[^|]+" do alternatives[#alternatives + 1] = word end
    kinds[#kinds + 1] = alternatives
  end
  return kinds
end

-- What has been typed before the word under way.
local function read_line(command, words)
  local line, i, only_args = { command = command, args = {} }, 2, false
  while i < #words do
    local word = words[i]
    if only_args or word:sub(1, 1) ~= "-" or word == "-" then
      line.args[#line.args + 1] = word
    elseif word == "--" then
      only_args = true
    else
      local option, value = option_of(command, word)
      if option and option.value and not value then
        if i + 1 == #words then line.option = option end
        i = i + 1
      end
    end
    i = i + 1
  end
  line.only_args = only_args
  return line
end

local function add(offer, words)
  for _, one in ipairs(words) do offer.words[#offer.words + 1] = one end
end

local function add_kind(offer, kind, line, word)
  local source = KINDS[kind]
  if type(source) == "string" then
    offer.files = source
  elseif source then
    local found, open = source(line, word)
    add(offer, found)
    offer.open = open
  elseif kind:find "^%l" then -- a literal word, as in success|failed
    add(offer, { { kind } })
  end
end

-- Values of an option.
local function add_values(offer, option, line, word)
  for _, choice in ipairs(option.choices or {}) do add(offer, { { choice } }) end
  if option.choices then return end
  for kind in option.value:gmatch "[^|]+" do
    if option.name == "version" and kind == "N" then kind = "VERSION" end
    if option.name == "flow" then kind = "FLOW" end
    add_kind(offer, kind, line, word)
  end
end

local function add_options(offer, command)
  for _, option in ipairs(command.options or {}) do add(offer, { { "--" .. option.name, option.help } }) end
  add(offer, { { "--help", "show the command's help" } })
end

local function fill(offer, words)
  local main, word = require "tidemill.main", words[#words]
  if #words == 1 then return add(offer, command_names()) end
  local command = main.command(words[1])
  if not command or command.hidden then return end
  local line = read_line(command, words)
  if line.option then return add_values(offer, line.option, line, word) end
  if word:sub(1, 1) == "-" and not line.only_args then
    local option, value = option_of(command, word)
    if not value then return add_options(offer, command) end
    if not option or not option.value then return end
    add_values(offer, option, line, value)
    for _, one in ipairs(offer.words) do one[1] = ("--%s=%s"):format(option.name, one[1]) end
    return
  end
  local kinds = kinds_of(command.usage)
  local alternatives = kinds[#line.args + 1] or kinds.rest and kinds[#kinds] or {}
  for _, kind in ipairs(alternatives) do add_kind(offer, kind == "N" and "VERSION" or kind, line, word) end
end

--- What may stand for the last word.
---@param words string[]  of the line behind "tidemill"; the last one is what the cursor is on
---@return tidemill.Offer
function completion.offer(words)
  local offer = { words = {} }
  pcall(fill, offer, words)
  local word, kept = words[#words], {}
  for _, one in ipairs(offer.words) do
    if one[1]:sub(1, #word) == word and not one[1]:find "%c" then kept[#kept + 1] = one end
  end
  offer.words = kept
  return offer
end

return completion
