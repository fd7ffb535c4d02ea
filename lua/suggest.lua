--- The nearest name to one that does not exist, for "did you mean" hints.
---
--- Distance is Damerau-Levenshtein (optimal string alignment): insertions, deletions,
--- substitutions and swaps of neighbours each cost one. Letter case costs next to nothing.

local suggest = {}

local function cost_of(a, b)
  if a == b then return 0 end
  return a:lower() == b:lower() and 0.1 or 1
end

--- Edits that turn `a` into `b`.
---@param a string
---@param b string
---@return number
function suggest.distance(a, b)
  local before, previous = nil, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    local ca = a:sub(i, i)
    for j = 1, #b do
      local cb = b:sub(j, j)
      local best = math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + cost_of(ca, cb))
      if i > 1 and j > 1 and ca == b:sub(j - 1, j - 1) and a:sub(i - 1, i - 1) == cb then
        best = math.min(best, before[j - 2] + 1)
      end
      row[j] = best
    end
    before, previous = previous, row
  end
  return previous[#b]
end

--- The nearest of `names`, or nil when none is near (more than a third of the letters differ).
---@param name string
---@param names string[]
---@return string?
function suggest.nearest(name, names)
  local best, best_distance
  for _, candidate in ipairs(names) do
    local limit = math.max(1, math.max(#name, #candidate) // 3)
    if math.abs(#candidate - #name) <= limit then
      local distance = suggest.distance(name, candidate)
      if distance <= limit and (not best or distance < best_distance) then
        best, best_distance = candidate, distance
      end
    end
  end
  return best
end

--- "did you mean 'x'?", or else "known: a, b, c", or nil when there are no names.
---@param name string
---@param names string[]
---@param what? string  the word before the list (default "known")
---@return string?
function suggest.hint(name, names, what)
  local near = suggest.nearest(name, names)
  if near then return ("did you mean '%s'?"):format(near) end
  if #names == 0 then return nil end
  local shown = table.move(names, 1, math.min(#names, 12), 1, {})
  local more = #names > #shown and (" and %d more"):format(#names - #shown) or ""
  return ("%s: %s%s"):format(what or "known", table.concat(shown, ", "), more)
end

--- The keys of a table that are strings, sorted: what `hint` wants.
---@param t table
---@return string[]
function suggest.keys(t)
  local names = {}
  for key in pairs(t) do
    if type(key) == "string" then names[#names + 1] = key end
  end
  table.sort(names)
  return names
end

return suggest
