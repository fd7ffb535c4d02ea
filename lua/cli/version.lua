--- `tidemill version`

local function run()
  print("tidemill " .. require("tidemill.embedded").version)
  return 0
end

return { name = "version", summary = "print the version", options = {}, run = run }
