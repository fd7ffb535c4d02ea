--- `tidemill complete -- WORD...`: what the Tab key offers; the scripts of `tidemill completion`
--- call it. A line of the answer is "=word<TAB>what it is", "@files EXTENSION|*" or "@open" (no
--- blank behind the word).

local function run(_, args)
  local offer = require "tidemill.completion".offer(args)
  if offer.open then io.stdout:write "@open\n" end
  if offer.files then io.stdout:write("@files ", offer.files, "\n") end
  for _, one in ipairs(offer.words) do
    io.stdout:write("=", one[1], "\t", ((one[2] or ""):gsub("%c", " ")), "\n")
  end
  return 0
end

return {
  name = "complete",
  summary = "what the Tab key offers (called by the shell, not by hand)",
  usage = "WORD...",
  args = { 1, nil },
  hidden = true,
  options = {},
  run = run,
}
