---@meta log

--- Lines about what a script does, on standard error.
---
--- Each line is `2026-01-02T03:04:05.678Z level message`, or a JSON object a line after
--- `log.configure { json = true }`. Inside a node the lines go to the run's log
--- (`tidemill logs RUN NODE`).
---
--- Example:
---
---     local log = require "log"
---     log.info("loaded %d rows into %s", 1000, "orders")

local log = {}

--- Logs detail for debugging; dropped unless the level is "debug".
---@param format string  as string.format takes it, when arguments follow; else plain text
---@param ... any
function log.debug(format, ...) end

--- Logs what happens in the normal course.
---@param format string
---@param ... any
function log.info(format, ...) end

--- Logs what somebody should look at, while work goes on.
---@param format string
---@param ... any
function log.warn(format, ...) end

--- Logs a failure.
---@param format string
---@param ... any
function log.error(format, ...) end

---@class log.Config
---@field level? "debug"|"info"|"warn"|"error"  lines below it are dropped (default "info")
---@field json? boolean  one JSON object a line (default false)

--- Sets level and form for the whole process; call it before anything logs.
---@param config log.Config
function log.configure(config) end

return log
