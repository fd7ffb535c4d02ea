local locations = require "tidemill.locations"
local lu = require "luaunit"

TestLocations = {}

function TestLocations.test_the_last_slash_makes_no_difference()
  lu.assertTrue(locations.same("lake:a/b/", "lake:a/b"))
  lu.assertFalse(locations.same("lake:a/b", "lake:a"))
  lu.assertFalse(locations.same("lake:a", "pond:a"))
end

function TestLocations.test_what_is_not_there_is_nowhere()
  local nowhere = { [1] = false } -- and [2] is nil: `x and y` of a node without a place is either
  for i = 1, 2 do
    lu.assertFalse(locations.same(nowhere[i], "lake:a"))
    lu.assertFalse(locations.same("lake:a", nowhere[i]))
    lu.assertFalse(locations.same(nowhere[i], nowhere[i]))
  end
end

function TestLocations.test_a_folder_is_a_prefix_of_keys()
  lu.assertEquals({ locations.folder "lake:a/b" }, { "lake", "a/b/" })
  lu.assertEquals({ locations.folder "lake:a/b/" }, { "lake", "a/b/" })
  lu.assertErrorMsgContains("'lake:/a': the path of a location does not start with '/'", locations.folder, "lake:/a")
end

os.exit(lu.LuaUnit.run())
