---@meta time

--- Instants, calendars and time variables.
---
--- An instant is a number of seconds since 1970-01-01T00:00:00Z: an integer, or a float
--- when it has a fraction. Zones are IANA names ("Asia/Shanghai"), "UTC" or fixed offsets
--- ("+08:00", east is positive); where none is given it is UTC. Dates are those of the years 1 to
--- 9999.
---
--- A local time that a clock change skips is moved later by the length of the gap; one that
--- comes twice means the first, unless the time it was derived from had the second's offset (the
--- rules of java.time).
---
--- Format letters, as in DMS and java.time. A letter repeated is padded with zeros:
---
---   y  year (yyyy 2024, yy 24)             H  hour 0-23       a  AM or PM
---   M  month (M 3, MM 03, MMM Mar,         h  hour 1-12       m  minute
---      MMMM March)                         K  hour 0-11       s  second
---   d  day of the month                    k  hour 1-24       S  fraction: SSS is milliseconds
---   D  day of the year                     E  weekday (E Fri, EEEE Friday)
---   w  week of the year, with year Y       e  weekday 1-7, Monday is 1
---   W  week of the month                   G  era (Gyyyy is "AD 2024")
---   z  offset: UTC+08:00
---
--- Weeks run Monday to Sunday; week 1 is the one that holds 1 January (w, Y) or the first of
--- the month (W), so that `YYYY ww` of 2021-01-03 is 2021 01, where ISO 8601 says 2020 53. Text in
--- single quotes is taken as it is, two quotes are one; every other character passes through,
--- every other letter is an error.
---
--- Offsets are runs of sign, number and unit, "+1d", "-1M+2d": y year, M month, w week, d day,
--- h hour, m minute. They are applied from the largest unit to the smallest whatever their order; a
--- day that the month lacks becomes its last. y, M, w and d keep the local time of day, h and m are
--- elapsed time.
---
--- Example:
---
---     local time = require "time"
---     local scheduled = time.parse("2024-03-15 02:00:00", "Asia/Shanghai")
---     local business = time.business(scheduled, "Asia/Shanghai")
---     print(time.variable(business, "yyyyMMdd", nil, "Asia/Shanghai"))       --> 20240314
---     print(time.variable(business, "yyyyMM01", "-1M", "Asia/Shanghai"))     --> 20240201
---     print(time.variable(business, "yyyy-MM-dd|+1d", nil, "Asia/Shanghai")) --> 2024-03-15

local time = {}

--- The wall clock: a float of seconds since 1970 UTC, in steps of a millisecond.
---@return number
function time.now() end

--- A clock that never jumps, for durations: a float of seconds from some moment in the past.
---@return number
function time.mono() end

--- Waits. Raises kind "canceled" when the process is interrupted (Ctrl-C, SIGTERM).
---@param seconds number  0 or more; rounded up to a millisecond
function time.sleep(seconds) end

--- Reads "2026-01-02", "2026-01-02 03:04", "2026-01-02T03:04:05.678", each also with "Z",
--- "+08:00", "+0800" or "+08" at its end; then the zone does not matter.
---
--- Raises kind "usage" for any other text and for dates that do not exist.
---@param text string
---@param timezone? string  of a time without an offset (default "UTC")
---@return number           an integer, or a float when the text has a fraction
function time.parse(text, timezone) end

--- Writes an instant with format letters (above).
---
--- Raises kind "usage" for an unknown letter or an open quote; the message says where.
---@param t number
---@param format string          "yyyy-MM-dd HH:mm:ss"
---@param timezone? string       default "UTC"
---@param locale? "en"|"zh"      of names (default "en")
---@return string
function time.format(t, format, timezone, locale) end

--- Writes an instant as ISO 8601: "2026-01-02T03:04:05+08:00", with Z for no offset, with
--- milliseconds when `t` has a fraction.
---@param t number
---@param timezone? string  default "UTC"
---@return string
function time.iso(t, timezone) end

---@class time.Civil
---@field year integer     1 to 9999
---@field month integer    1 to 12
---@field day integer      1 to 31
---@field hour integer     0 to 23
---@field min integer      0 to 59
---@field sec integer      0 to 59
---@field weekday integer  1 = Monday to 7 = Sunday
---@field yearday integer  1 to 366
---@field offset integer   seconds east of UTC
---@field zone string      abbreviation: "CEST", "+0330"

--- The date and time of day on a zone's clock.
---@param t number
---@param timezone? string  default "UTC"
---@return time.Civil
function time.civil(t, timezone) end

--- Moves an instant by offsets.
---
--- Raises kind "usage" for offsets that cannot be read and for results outside the years 1 to
--- 9999.
---@param t number
---@param offsets string|string[]  "+1d", "-1M+2d", { "-1M", "+1d" }
---@param timezone? string         default "UTC"
---@return number
function time.add(t, offsets, timezone) end

--- The business time of a scheduled time: the same local time one calendar day before.
---
--- Where that local time does not exist it is moved later by the length of the gap; where it
--- comes twice, it is the one with the scheduled time's offset if there is one, else the first.
---@param scheduled number
---@param timezone? string  default "UTC"
---@return number
function time.business(scheduled, timezone) end

--- The value of a time variable: the business time, moved by offsets, in a format.
---
--- Without `offsets` the format may carry them behind its last `|` (outside quotes), as DMS
--- writes variables: "yyyy-MM-dd|+0m-2d".
---@param business number
---@param format string             format letters (above)
---@param offsets? string|string[]  "+1d", { "-1M", "+1d" }
---@param timezone? string          default "UTC"
---@param locale? "en"|"zh"         of names (default "en")
---@return string
function time.variable(business, format, offsets, timezone, locale) end

--- The zone's name as tidemill writes it: "+8" is "+08:00". Raises kind "usage" for an
--- unknown one, so that this checks a name.
---@param timezone string
---@return string
function time.zone(timezone) end

return time
