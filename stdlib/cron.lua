---@meta cron

--- Cron expressions: when does a schedule fire?
---
--- Six or seven fields are Quartz's, seconds first, as Alibaba Cloud DMS writes them:
---
---     second  minute  hour  day-of-month  month    day-of-week  [year]
---     0-59    0-59    0-23  1-31          1-12     1-7          1970-2099
---                                         JAN-DEC  SUN-SAT
---
---     *  every value            5,10  a list            1-5   a range; 22-2 and FRI-MON wrap
---     */15  every 15th          5/15  every 15th from 5 on    1-30/2  every 2nd of a range
---     ?  no choice: stands in exactly one of the two day fields
---     L  last day of the month; L-3 three days before it; LW the last working day
---     15W  the working day (Monday to Friday) nearest to the 15th, within the month
---     6L  the last Friday of the month; 6#3 the third Friday; L alone in day-of-week is Saturday
---
--- Here 1 is Sunday and 7 is Saturday. Beyond Quartz, a step after named ranges counts
--- (JAN-MAR/2 is January and March; Quartz drops it) and # may stand in a list.
---
--- Five fields are crontab's: minute hour day-of-month month day-of-week, where 0 and 7 are
--- Sunday and, if both day fields are restricted, either is enough; `5/15` is refused there,
--- because crons disagree about it: write `5-59/15`. The nicknames @hourly, @daily, @midnight,
--- @weekly, @monthly, @yearly and @annually are understood too.
---
--- When clocks change (option `dst`):
---
---     "once"    (default) A fixed time (seconds, minutes, hours without * and /) that the
---               clock skips fires right after the gap, if that is three hours at most; one
---               that comes twice fires the first time only. Any other expression keeps
---               its pace: it fires whenever the local time matches.
---     "quartz"  as Quartz 2.5: a skipped time is left out, a repeated one fires the second
---               time only, even for an expression such as every 15 minutes.
---     "each"    a skipped time is left out, a repeated one fires both times.
---
--- Example:
---
---     local cron, time = require "cron", require "time"
---     local nightly = cron.parse("0 30 2 * * ?", { timezone = "Asia/Shanghai" })
---     for _, t in ipairs(nightly:next(time.now(), 3)) do
---       print(time.iso(t, "Asia/Shanghai"))
---     end

local cron = {}

---@class cron.Opts
---@field timezone? string               IANA name ("Asia/Shanghai"), "UTC" or "+08:00" (default "UTC")
---@field dst? "once"|"quartz"|"each"    what happens when clocks change (default "once")

--- A parsed expression with its zone and rule. It never changes and needs no closing.
---@class cron.Schedule
local Schedule = {}

--- Reads an expression.
---
--- Raises kind "usage" for what is not understood in full: the message names the field, the
--- text and the allowed range, the hint says what to write. Also for an unknown zone or rule.
---@param expression string  at most 1000 characters
---@param opts? cron.Opts
---@return cron.Schedule
function cron.parse(expression, opts) end

--- The first fire time after `t`, or the first `n` of them.
---
--- With `n` the result is an array, shorter than `n` when the schedule ends. Costs about a
--- microsecond each; that an expression never fires (30 February) is known within
--- milliseconds.
---@param t number    seconds since 1970 UTC; a fire time equal to it is not returned
---@param n? integer  1 to 1000000
---@return integer|integer[]|nil  seconds since 1970 UTC; nil when there is none
function Schedule:next(t, n) end

--- The last fire time before `t` (strictly), or nil.
---
--- For the rules "once" and "each", `next` and `previous` walk through the same times. With "quartz", as
--- in Quartz, `next` asked within the first pass of a repeated hour goes on after that local
--- time, while `previous` knows all times.
---@param t number  seconds since 1970 UTC
---@return integer?
function Schedule:previous(t) end

--- What the expression means, in English: "at 02:30 on the last day of every month".
---@return string
function Schedule:describe() end

--- The expression as it was given.
---@return string
function Schedule:expression() end

--- The zone's name; a fixed offset as "+08:00".
---@return string
function Schedule:timezone() end

--- The rule for clock changes.
---@return "once"|"quartz"|"each"
function Schedule:dst() end

return cron
