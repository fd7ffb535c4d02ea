--- `tidemill ossd`: the development object store. runtime/main.c runs it without Lua, so here
--- is only what the manual needs.

local function page()
  return require "proc".run { cmd = { "/proc/self/exe", "ossd", "--help" }, check = true }.stdout
end

return {
  name = "ossd",
  summary = "a local object store that speaks OSS and S3, for development and demos only",
  page = page,
}
