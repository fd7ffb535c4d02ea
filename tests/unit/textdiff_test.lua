--- textdiff: unified diffs, checked by hand, by patch(1) and against diff(1).

local lu = require "luaunit"
local proc = require "proc"
local textdiff = require "tidemill.textdiff"

TestTextdiff = {}

function TestTextdiff.test_the_same_text_has_no_diff()
  lu.assertEquals(textdiff.unified("a\nb\n", "a\nb\n", "x", "y"), "")
  lu.assertEquals(textdiff.unified("", "", "x", "y"), "")
end

function TestTextdiff.test_a_change_stands_between_three_lines_of_context()
  lu.assertEquals(textdiff.unified("1\n2\n3\n4\n5\n6\n7\n8\n", "1\n2\n3\n4\nfive\n6\n7\n8\n", "old", "new"),
    "--- old\n+++ new\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n")
end

function TestTextdiff.test_changes_far_apart_are_hunks_of_their_own()
  local a, b = {}, {}
  for i = 1, 30 do
    a[i] = i .. "\n"
    if i ~= 5 then b[#b + 1] = a[i] end
    if i == 25 then b[#b + 1] = "new\n" end
  end
  local diff = textdiff.unified(table.concat(a), table.concat(b), "old", "new")
  lu.assertEquals(select(2, diff:gsub("@@ %-", "")), 2)
  lu.assertStrContains(diff, "@@ -2,7 +2,6 @@\n")
  lu.assertStrContains(diff, "@@ -23,6 +22,7 @@\n")
end

function TestTextdiff.test_a_missing_last_newline_is_told()
  lu.assertEquals(textdiff.unified("a", "a\n", "x", "y"),
    "--- x\n+++ y\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n")
  lu.assertEquals(textdiff.unified("", "a\n", "x", "y"), "--- x\n+++ y\n@@ -0,0 +1 @@\n+a\n")
  lu.assertEquals(textdiff.unified("a\n", "", "x", "y"), "--- x\n+++ y\n@@ -1 +0,0 @@\n-a\n")
end

local function random_text(random, lines)
  local out = {}
  for i = 1, random(0, lines) do out[i] = string.char(96 + random(1, 6)) .. "\n" end
  return table.concat(out)
end

local function write(path, text)
  local f <close> = assert(io.open(path, "w"))
  f:write(text)
end

function TestTextdiff.test_patch_makes_the_second_text_of_the_first_and_no_diff_is_shorter()
  local dir = os.getenv "TM_TMP" or (os.getenv "TM_BUILD" or "build") .. "/tmp"
  proc.run { cmd = { "mkdir", "-p", dir }, check = true }
  local a_path, b_path, diff_path, seed = dir .. "/diff-a", dir .. "/diff-b", dir .. "/diff", 7
  local function random(low, high)
    seed = (seed * 1103515245 + 12345) % (1 << 31)
    return low + (seed >> 8) % (high - low + 1)
  end
  for round = 1, 40 do
    local a, b = random_text(random, 40), random_text(random, 40)
    local diff = textdiff.unified(a, b, "a", "b")
    write(a_path, a)
    write(b_path, b)
    local theirs = proc.run { cmd = { "diff", "-d", "-u", a_path, b_path } }.stdout
    local function changes(text) return select(2, text:gsub("\n[-+][^-+]", "")) end
    lu.assertTrue(changes(diff) <= changes(theirs), round)
    if diff ~= "" then
      write(diff_path, diff)
      local patched = proc.run { cmd = { "patch", "-s", "-i", diff_path, "-o", "-", a_path } }
      lu.assertEquals(patched.stdout, b, diff)
    end
  end
end

function TestTextdiff.test_texts_with_nothing_in_common_are_replaced_whole()
  local a, b = ("x\n"):rep(2000), ("y\n"):rep(2000)
  local diff = textdiff.unified(a, b, "a", "b")
  lu.assertEquals(#diff, #"--- a\n+++ b\n@@ -1,2000 +1,2000 @@\n" + 3 * 4000)
end

os.exit(lu.LuaUnit.run())
