--- Texts made fit for JSON and for a database.

local lu = require "luaunit"
local text = require "tidemill.text"

TestText = {}

function TestText.test_clean_text_stays()
  for _, one in ipairs { "", "plain", "Täglich 中文", "line\nline\t" } do
    lu.assertEquals({ text.clean(one) }, { one })
  end
end

function TestText.test_what_is_not_utf8_becomes_question_marks()
  lu.assertEquals({ text.clean "a\xffb\xe4" }, { "a?b?" })
  lu.assertEquals(text.clean "\xff\0", "??")
end

function TestText.test_a_zero_byte_becomes_a_question_mark()
  lu.assertEquals({ text.clean "a\0b\0ä" }, { "a?b?ä" })
  lu.assertEquals(text.clean_all { ["k\0"] = { "v\0" }, n = 1 }, { ["k?"] = { "v?" }, n = 1 })
end

os.exit(lu.LuaUnit.run())
