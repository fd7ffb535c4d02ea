--- Names of what an extract puts below a prefix: its objects, and one manifest an attempt.
---
---     PREFIX<slug>-<business>-<run>-<attempt>-<job>-<number><suffix>      an object
---     PREFIX_manifest/<business>-<run>-<slug>-<attempt>.json             a manifest
---
--- No two attempts ever share a name, so none can touch what is another's, and the name of an
--- object tells where the manifest of its attempt would be. Of the manifests of a prefix the
--- greatest is the newest: by business time (yyyymmddThhmmssZ, UTC), then by run (an id sorts by
--- the time it was made), node and attempt. A slug holds no "-", so every name can be taken apart
--- again; what cannot is not ours.

local sign = require "tidemill.sign"
local time = require "time"

local names = {}

--- The folder of the manifests, below the prefix.
names.FOLDER = "_manifest/"

--- Of the number of an object: so that keys are in the order in which objects were made.
names.DIGITS = 6

-- Eight digits, six digits, random ones: lua/state/common.lua makes it.
local RUN = "^%d%d%d%d%d%d%d%d%-%d%d%d%d%d%d%-%x%x%x%x+$"
local EXTENSIONS = { csv = true, txt = true }
local SUFFIXES = { [""] = true, [".gz"] = true, [".zst"] = true }
local SLUG_BYTES = 60

---@class manifest.Who
---@field node string
---@field run string
---@field attempt integer
---@field business number  epoch seconds

--- A node's name in letters that any store, shell and file system takes: a-z, 0-9 and _. A name
--- that loses more than case and separators by that gets a piece of its hash.
---@param node string
---@return string
function names.slug(node)
  local plain = node:lower():gsub("[ _%-]+", "_")
  local slug = plain:gsub("[^%w]+", "_"):gsub("^_+", ""):gsub("_+$", ""):sub(1, SLUG_BYTES)
  if slug == plain then return slug end
  return ("%s_%s"):format(slug == "" and "node" or slug:sub(1, SLUG_BYTES - 9), sign.sha256(node):sub(1, 8))
end

local function business_of(who) return time.format(math.floor(who.business), "yyyyMMdd'T'HHmmss'Z'") end

--- What the names of a node's objects in a run begin with; with an attempt and a job, those of it.
---@param who manifest.Who
---@param attempt? integer
---@param job? integer
---@return string
function names.stem(who, attempt, job)
  local stem = ("%s-%s-%s-"):format(names.slug(who.node), business_of(who), who.run)
  if attempt then stem = ("%s%d-"):format(stem, attempt) end
  return job and ("%s%d-"):format(stem, job) or stem
end

--- The id of the manifest of an attempt: its name without the folder and ".json".
---@param who manifest.Who
---@param attempt? integer  another one of the node and run
---@return string
function names.id(who, attempt)
  return names.id_of { business = business_of(who), run = who.run, slug = names.slug(who.node),
    attempt = attempt or who.attempt }
end

--- The same of a name that was taken apart.
---@param name manifest.Name
---@return string
function names.id_of(name)
  return ("%s-%s-%s-%04d"):format(name.business, name.run, name.slug, name.attempt)
end

--- The key of a manifest.
---@param prefix string  "orders/20260101/"
---@param id string
---@return string
function names.key(prefix, id) return prefix .. names.FOLDER .. id .. ".json" end

---@class manifest.Name
---@field business string
---@field run string
---@field slug string
---@field attempt integer

-- "20260101T000000Z", if there is such a time.
local function is_time(text)
  local y, mo, d, h, mi, s = text:match "^(%d%d%d%d)(%d%d)(%d%d)T(%d%d)(%d%d)(%d%d)Z$"
  return y ~= nil and pcall(time.parse, ("%s-%s-%sT%s:%s:%sZ"):format(y, mo, d, h, mi, s))
end

--- Takes the id of a manifest apart; nil if it is not one.
---@param id string
---@return manifest.Name?
function names.parse_id(id)
  local business, run, slug, attempt = id:match "^([%dTZ]+)%-([%w%-]+)%-([a-z0-9_]+)%-(%d%d%d%d+)$"
  if not business or #attempt > 9 or #slug > SLUG_BYTES or not is_time(business) then return nil end
  attempt = math.tointeger(tonumber(attempt))
  if attempt == 0 or ("%04d"):format(attempt) ~= id:match "%d+$" then return nil end
  return { business = business, run = run, slug = slug, attempt = attempt }
end

--- Whether a manifest comes before another: is older, as far as names tell.
---@param a manifest.Name
---@param b manifest.Name
---@return boolean
function names.less(a, b)
  if a.business ~= b.business then return a.business < b.business end
  if a.run ~= b.run then return a.run < b.run end
  if a.slug ~= b.slug then return a.slug < b.slug end
  return a.attempt < b.attempt
end

--- Whether a text has the form of a run's id.
---@param text string
---@return boolean
function names.is_run(text) return text:find(RUN) ~= nil end

--- Takes the name of an object apart; nil unless it is one that an extract gives, to the letter.
---@param name string  without any folder
---@return manifest.Name?
function names.parse_object(name)
  local slug, business, run, attempt, job, number, extension, suffix =
    name:match "^([a-z0-9_]+)%-(%w+)%-([%x%-]+)%-([1-9]%d*)%-([1-9]%d*)%-(%d+)%.(%l+)(.*)$"
  if not slug or #slug > SLUG_BYTES or not EXTENSIONS[extension] or not SUFFIXES[suffix] then return nil end
  if not is_time(business) or not names.is_run(run) then return nil end
  if #attempt > 9 or #job > 4 or #number < names.DIGITS or #number > 9 then return nil end
  return { slug = slug, business = business, run = run, attempt = math.tointeger(tonumber(attempt)) }
end

return names
