---@meta proc
--- Child processes: start them, talk to them, wait for them, never leave one behind.
---
--- A child gets only the descriptors it is given, lives in a process group of its own, and
--- dies with the process that started it. Times are seconds and may have fractions.
---
---     local proc = require "proc"
---
---     local r = proc.run { cmd = { "sort", "-u" }, input = "b\na\nb\n", timeout = 10 }
---     print(r.code, r.stdout)                      --> 0   a\nb\n
---
---     local child <close> = proc.spawn { cmd = "echo hello; sleep 60", stdout = "pipe" }
---     print(child:read(1, 5))                      --> hello
---                                                  -- leaving the block ends the child

local proc = {}

---@class proc.Options
---@field cmd string[]|string      the program and its arguments; a string is run by /bin/sh -c.
---A program without a slash is looked up in PATH
---@field env? table<string, string|false>  added to our environment; false takes a name away
---@field cwd? string              directory to start in (default: ours)
---@field input? string            all that the child can read from its standard input
---@field stdin? "null"|"pipe"|"inherit"   (default "null"; "pipe": see Proc:write)
---@field stdout? "inherit"|"pipe"|"null"  (default "inherit"; "pipe": see Proc:read)
---@field stderr? "inherit"|"pipe"|"null"  (default "inherit")
---@field fds? table<integer, "pipe"|"feed"|"inherit"|"null">  descriptors 3 to 15: "pipe" is one
---that the child writes, "feed" one that it reads
---@field group? boolean           a process group of its own (default true): `kill` reaches the
---whole group, and what is left of it is killed when the child ends
---@field death_signal? string|integer|false  what the child gets when we end (default "KILL")

---@class proc.RunOptions : proc.Options
---@field timeout? number          seconds the child may take (default: no limit)
---@field max_output? integer      most bytes it may write to each of stdout and stderr
---(default 16 MiB)
---@field check? boolean           raise unless it ends with exit code 0 (default false)

---@class proc.Status
---@field code? integer            exit code; nil when a signal ended the child
---@field signal? string           name of that signal, such as "SIGKILL"
---@field utime number             CPU seconds in user mode, its own waited-for children included
---@field stime number             CPU seconds in the kernel
---@field maxrss_bytes integer     peak resident memory

---@class proc.Result : proc.Status
---@field stdout string
---@field stderr string

---@class proc.Event
---@field handle proc.Proc
---@field fd? integer              this descriptor of the child can be read (or is at its end)
---@field ended? true              the child has ended: `wait` gives its status at once

--- A child process. Closing it (`<close>`, `close`, the garbage collector) kills it if it runs.
---@class proc.Proc
local Proc = {}

--- Starts a child and returns at once.
---
--- Raises not_found when there is no such program or directory, system when the operating system
--- refuses.
---@param options proc.Options
---@return proc.Proc
function proc.spawn(options) end

--- Runs a child to its end and gives what it wrote.
---
--- A non-zero exit code is an ordinary answer unless `check` is set. The child is killed and
--- an error raised when it takes longer than `timeout` (kind timeout), writes more than
--- `max_output` (kind data), or this process is interrupted (kind canceled).
---@param options proc.RunOptions  stdout and stderr default to "pipe"
---@return proc.Result
function proc.run(options) end

--- Waits until one of many children has something to read or has ended.
---
--- A descriptor at its end is reported until `close_fd`, a child that ended until `wait`.
--- Closed handles are passed over. Raises canceled when this process is interrupted.
---@param handles proc.Proc[]
---@param timeout? number  seconds (default: no limit)
---@return proc.Event[]    empty when the time is over
function proc.poll(handles, timeout) end

--- The process id.
---@return integer
function Proc:pid() end

--- Reads what there is, at most 64 KiB.
---@param fd? integer       the child's descriptor (default 1, its standard output)
---@param timeout? number   seconds to wait for the first byte (default: no limit)
---@return string? bytes    "" when the time is over, nil at the end
function Proc:read(fd, timeout) end

--- Writes to the child's standard input, or to another descriptor it reads, all of it.
---
--- Raises io when the child has closed its end, timeout when it does not read in time.
---@param bytes string
---@param timeout? number   seconds to wait each time the pipe is full (default: no limit)
---@param fd? integer       the child's descriptor (default 0)
function Proc:write(bytes, timeout, fd) end

--- Ends the child's standard input.
function Proc:close_stdin() end

--- Closes our end of one of the child's descriptors.
---@param fd integer
function Proc:close_fd(fd) end

--- Waits for the end. May be asked again afterwards.
---@param timeout? number   seconds (default: no limit)
---@return proc.Status?     nil when it still runs
function Proc:wait(timeout) end

--- Sends a signal to the child's group; nothing happens if it has ended.
---@param signal? string|integer  "TERM" (default), "KILL", "INT", "HUP", "STOP", "CONT" ... or a number
function Proc:kill(signal) end

--- Kills the child if it runs, and forgets it.
function Proc:close() end

return proc
