--- Differences of two texts as unified diff, by Myers' algorithm (E. Myers, "An O(ND)
--- Difference Algorithm and Its Variations", 1986).
---
--- Lines that both texts begin or end with are set aside first. Texts that differ in more
--- than MAX_EDITS lines are shown as one block removed and one added: right, only not the
--- shortest.

local textdiff = {}

local MAX_EDITS, CONTEXT = 1000, 3

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "([^\n]*\n?)" do
    if line ~= "" then lines[#lines + 1] = line end
  end
  return lines
end

-- The furthest points reached on each diagonal, one table a number of edits; nil past the limit.
local function trace_of(a, b, first, last_a, last_b)
  local n, m = last_a - first + 1, last_b - first + 1
  local v, trace = { [1] = 0 }, {}
  for d = 0, math.min(n + m, MAX_EDITS) do
    local before = {}
    for k = -d - 1, d + 1 do before[k] = v[k] end
    trace[d] = before
    for k = -d, d, 2 do
      local down = k == -d or k ~= d and v[k - 1] < v[k + 1]
      local x = down and v[k + 1] or v[k - 1] + 1
      while x < n and x - k < m and a[first + x] == b[first + x - k] do x = x + 1 end
      v[k] = x
      if x >= n and x - k >= m then return trace, d end
    end
  end
end

-- Edits from the end to the start, walked along the trace.
local function walk(a, b, first, last_a, last_b, trace, d, out)
  local x, y = last_a - first + 1, last_b - first + 1
  for edits = d, 1, -1 do
    local v, k = trace[edits], x - y
    local down = k == -edits or k ~= edits and v[k - 1] < v[k + 1]
    local from_k = down and k + 1 or k - 1
    local from_x = v[from_k]
    while x > (down and from_x or from_x + 1) do
      x, y = x - 1, y - 1
      out[#out + 1] = { " ", a[first + x] }
    end
    if down then
      y = y - 1
      out[#out + 1] = { "+", b[first + y] }
    else
      x = x - 1
      out[#out + 1] = { "-", a[first + x] }
    end
  end
  while x > 0 do
    x = x - 1
    out[#out + 1] = { " ", a[first + x] }
  end
end

-- The lines of both texts in order, each marked " ", "-" or "+".
local function edits_of(a, b)
  local first, last_a, last_b = 1, #a, #b
  while first <= last_a and first <= last_b and a[first] == b[first] do first = first + 1 end
  while last_a >= first and last_b >= first and a[last_a] == b[last_b] do
    last_a, last_b = last_a - 1, last_b - 1
  end
  local out, middle = {}, {}
  for i = 1, first - 1 do out[i] = { " ", a[i] } end
  local trace, d = trace_of(a, b, first, last_a, last_b)
  if trace then
    walk(a, b, first, last_a, last_b, trace, d, middle)
    for i = #middle, 1, -1 do out[#out + 1] = middle[i] end
  else
    for i = first, last_a do out[#out + 1] = { "-", a[i] } end
    for i = first, last_b do out[#out + 1] = { "+", b[i] } end
  end
  for i = last_a + 1, #a do out[#out + 1] = { " ", a[i] } end
  return out
end

local function range(start, count)
  if count == 1 then return ("%d"):format(start) end
  return ("%d,%d"):format(count == 0 and start - 1 or start, count)
end

-- Appends the hunk of edits[first..last]; `at_a`, `at_b` are the lines where it starts.
local function add_hunk(out, edits, first, last, at_a, at_b)
  local count_a, count_b, body = 0, 0, {}
  for i = first, last do
    local mark, line = edits[i][1], edits[i][2]
    if mark ~= "+" then count_a = count_a + 1 end
    if mark ~= "-" then count_b = count_b + 1 end
    body[#body + 1] = mark .. line .. (line:find "\n$" and "" or "\n\\ No newline at end of file\n")
  end
  out[#out + 1] = ("@@ -%s +%s @@\n"):format(range(at_a, count_a), range(at_b, count_b))
  out[#out + 1] = table.concat(body)
end

-- Where each run of changes, with its context, begins and ends.
local function spans_of(edits)
  local spans = {}
  for i, edit in ipairs(edits) do
    if edit[1] ~= " " then
      local last = spans[#spans]
      if last and i - CONTEXT <= last[2] + 1 then
        last[2] = math.min(i + CONTEXT, #edits)
      else
        spans[#spans + 1] = { math.max(i - CONTEXT, 1), math.min(i + CONTEXT, #edits) }
      end
    end
  end
  return spans
end

--- The unified diff of two texts, "" when they are the same.
---@param a string
---@param b string
---@param name_a string  what stands behind "---"
---@param name_b string  what stands behind "+++"
---@return string
function textdiff.unified(a, b, name_a, name_b)
  if a == b then return "" end
  local edits = edits_of(lines_of(a), lines_of(b))
  local out = { ("--- %s\n+++ %s\n"):format(name_a, name_b) }
  local i, at_a, at_b = 1, 1, 1
  for _, span in ipairs(spans_of(edits)) do
    for j = i, span[1] - 1 do
      if edits[j][1] ~= "+" then at_a = at_a + 1 end
      if edits[j][1] ~= "-" then at_b = at_b + 1 end
    end
    add_hunk(out, edits, span[1], span[2], at_a, at_b)
    i = span[1]
  end
  return table.concat(out)
end

return textdiff
