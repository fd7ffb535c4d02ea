--- What every store must do, whichever server or directory stands behind it.
---
---     suite.add(TestX, { open = function() return store end, any_key = true, ... })
---
--- adds the tests to a luaunit class. `open` gives a store with an empty prefix; the traits
--- say where a kind of store differs.

local lu = require "luaunit"
local stream = require "stream"

local suite = {}

---@class suite.Traits
---@field open fun(): oss.Store
---@field any_key boolean     keys that no file could have
---@field metadata boolean    content type and user metadata are kept
---@field crc boolean         the store itself tells CRC64
---@field presign boolean
---@field min_part integer    smallest part but the last

local ODD_KEYS = {
  "space in name", "plus+plus", "percent%20%", "ünïcödé/你好", "a&b<c>\"d'", "tilde~star*",
  "q?x=1#f", "back\\slash", "comma,semi;colon:", "dots...", "=", "x/=y&z",
}
local OBJECT_KEYS = { "a/../b", "a//b", "./c", "tab\tnew\nline\1", "trailing/", ("k"):rep(1000), "a/./d" }

local function sort(list)
  table.sort(list)
  return list
end

local function keys_of(store, opts)
  local keys = {}
  for entry in store:list(opts) do keys[#keys + 1] = entry.key end
  return keys
end

local function drain(source)
  local parts = {}
  while true do
    local bytes = source:read()
    if not bytes then return table.concat(parts) end
    parts[#parts + 1] = bytes
  end
end

-- About `n` bytes that do not repeat soon.
local function pattern(n)
  local parts, size, i = {}, 0, 0
  while size < n do
    i = i + 1
    parts[i] = ("%d,%x;"):format(i * 7919, i * i)
    size = size + #parts[i]
  end
  return table.concat(parts):sub(1, n)
end

local function error_of(f, ...)
  local ok, e = pcall(f, ...)
  lu.assertFalse(ok)
  return e
end

--- Runs f and returns what it raised, which must be of this kind.
function suite.raises(kind, f, ...)
  local e = error_of(f, ...)
  lu.assertEquals(type(e), "table", tostring(e))
  lu.assertEquals(e.kind, kind, tostring(e))
  return e
end
local raises = suite.raises

--- Deletes everything in the store.
function suite.empty(store)
  for _, u in ipairs(store:list_multiparts()) do store:abort_multipart(u.key, u.upload_id) end
  lu.assertEquals(store:delete_many(keys_of(store)), {})
end

local function add_plain(class, t)
  function class.test_what_was_put_is_got(self)
    local s = self.store
    local info = s:put("a/b.txt", "hello")
    lu.assertEquals(info.size, 5)
    lu.assertEquals(info.crc64, "11177612005948864433")
    local bytes, got = s:get "a/b.txt"
    lu.assertEquals(bytes, "hello")
    lu.assertEquals(got.size, 5)
    lu.assertEquals(got.etag, info.etag)
    s:put("a/b.txt", "")
    lu.assertEquals((s:get "a/b.txt"), "")
    lu.assertEquals(s:head("a/b.txt").size, 0)
  end

  function class.test_ranges_are_exact(self)
    local s = self.store
    s:put("r", "0123456789")
    lu.assertEquals((s:get("r", { offset = 3, length = 4 })), "3456")
    lu.assertEquals((s:get("r", { offset = 8 })), "89")
    lu.assertEquals((s:get("r", { offset = 8, length = 100 })), "89")
    lu.assertEquals((s:get("r", { length = 2 })), "01")
    lu.assertEquals(raises("usage", s.get, s, "r", { offset = 10 }).code, "InvalidRange")
  end

  function class.test_a_get_may_be_pinned_to_an_etag(self)
    local s = self.store
    local info = s:put("p", "one")
    lu.assertEquals((s:get("p", { if_match = info.etag })), "one")
    s:put("p", "two!")
    raises("conflict", s.get, s, "p", { if_match = info.etag })
  end

  function class.test_what_is_absent_is_said_to_be(self)
    local s = self.store
    lu.assertNil(s:head "nope")
    local e = raises("not_found", s.get, s, "nope/x")
    lu.assertStrContains(e.message, "nope/x")
    s:delete "nope"
    lu.assertEquals(s:delete_many { "nope", "nope2" }, {})
  end

  function class.test_create_only_keeps_what_is_there(self)
    local s = self.store
    s:put("c", "first", { create_only = true })
    raises("exists", s.put, s, "c", "second", { create_only = true })
    lu.assertEquals((s:get "c"), "first")
  end

  function class.test_a_copy_has_the_same_bytes(self)
    local s = self.store
    s:put("from + %.txt", "bytes", { content_type = "text/x-odd" })
    s:copy("from + %.txt", "to/there")
    lu.assertEquals((s:get "to/there"), "bytes")
    if t.metadata then lu.assertEquals(s:head("to/there").content_type, "text/x-odd") end
    raises("not_found", s.copy, s, "nope", "x")
  end

  function class.test_metadata_comes_back(self)
    if not t.metadata then
      lu.assertEquals(self.store:put("m", "x", { metadata = { a = "1" } }).metadata, {})
      return
    end
    local s = self.store
    s:put("m", "x", { content_type = "text/csv", metadata = { Origin = "pg 15", n = "7" } })
    local info = s:head "m"
    lu.assertEquals(info.content_type, "text/csv")
    lu.assertEquals(info.metadata, { origin = "pg 15", n = "7" })
    raises("usage", s.put, s, "m", "x", { metadata = { ["a b"] = "1" } })
    raises("usage", s.put, s, "m", "x", { metadata = { a = "1\r\nX-Evil: 1" } })
  end
end

local function add_keys(class, t)
  function class.test_odd_keys_are_taken_as_they_are(self)
    local s, all = self.store, {}
    table.move(ODD_KEYS, 1, #ODD_KEYS, 1, all)
    if t.any_key then table.move(OBJECT_KEYS, 1, #OBJECT_KEYS, #all + 1, all) end
    for i, key in ipairs(all) do s:put(key, "body " .. i) end
    for i, key in ipairs(all) do lu.assertEquals((s:get(key)), "body " .. i, key) end
    lu.assertEquals(keys_of(s), sort { table.unpack(all) })
    for i = 1, #all, 2 do s:delete(all[i]) end
    lu.assertEquals(#keys_of(s), #all // 2)
    lu.assertEquals(s:delete_many(all), {})
    lu.assertEquals(keys_of(s), {})
  end

  function class.test_keys_that_cannot_be_are_refused(self)
    local s = self.store
    raises("usage", s.put, s, "", "x")
    raises("usage", s.put, s, ("k"):rep(1025), "x")
    lu.assertStrContains(tostring(error_of(s.put, s, "a\0b", "x")), "zero byte")
  end

  function class.test_listings_fold_at_the_delimiter(self)
    local s = self.store
    for _, key in ipairs { "a", "b/1", "b/2", "b/c/3", "d-e", "d/4" } do s:put(key, "x") end
    lu.assertEquals(keys_of(s, { delimiter = "/" }), { "a", "b/", "d-e", "d/" })
    lu.assertEquals(keys_of(s, { delimiter = "/", prefix = "b/" }), { "b/1", "b/2", "b/c/" })
    lu.assertEquals(keys_of(s, "b"), { "b/1", "b/2", "b/c/3" })
    lu.assertEquals(keys_of(s, { start_after = "b/2" }), { "b/c/3", "d-e", "d/4" })
    lu.assertEquals(keys_of(s, { delimiter = "/", page_size = 1 }), { "a", "b/", "d-e", "d/" })
    for entry in s:list { delimiter = "/" } do lu.assertEquals(entry.prefix, entry.key:find "/$" and true or nil) end
  end

  function class.test_listings_go_over_many_pages(self)
    local s, want = self.store, {}
    for i = 1, 23 do
      want[i] = ("n/%04d"):format(i)
      s:put(want[i], "x")
    end
    lu.assertEquals(keys_of(s, { page_size = 5 }), want)
    lu.assertEquals(keys_of(s, { page_size = 23 }), want)
    lu.assertEquals(keys_of(s), want)
  end
end

local function add_multipart(class, t)
  function class.test_parts_become_an_object(self)
    local s = self.store
    local head, tail = pattern(t.min_part), "tail"
    local id = s:create_multipart "mp"
    lu.assertNil(s:head "mp")
    s:upload_part("mp", id, 1, "replaced")
    local two = s:upload_part("mp", id, 7, tail)
    local one = s:upload_part("mp", id, 1, head)
    lu.assertEquals(#s:list_parts("mp", id), 2)
    lu.assertEquals(s:list_parts("mp", id)[2].size, #tail)
    lu.assertEquals(s:list_multiparts()[1].upload_id, id)
    local info = s:complete_multipart("mp", id, { one, two })
    lu.assertEquals(info.size, #head + #tail)
    lu.assertEquals((s:get "mp"), head .. tail)
    lu.assertEquals(s:list_multiparts(), {})
  end

  function class.test_an_aborted_upload_leaves_nothing(self)
    local s = self.store
    local id = s:create_multipart "mp"
    local part = s:upload_part("mp", id, 1, "x")
    s:abort_multipart("mp", id)
    s:abort_multipart("mp", id)
    error_of(s.complete_multipart, s, "mp", id, { part }) -- not_found; radosgw 16 says 500
    lu.assertNil(s:head "mp")
  end
end

local function write_all(sink, bytes, step)
  for i = 1, #bytes, step do sink:write(bytes:sub(i, i + step - 1), 1) end
end

local function add_streams(class, t)
  function class.test_a_writer_and_a_reader_agree(self)
    local s = self.store
    for _, size in ipairs { 0, 1, t.min_part - 1, t.min_part, 3 * t.min_part + 17 } do
      local bytes = pattern(size)
      local sink <close> = s:writer("w", { part_bytes = t.min_part })
      write_all(sink, bytes, 300000)
      sink:finish()
      local r = sink:result()
      lu.assertEquals(r.size, size)
      local source <close> = s:reader("w", {
        range_bytes = math.max(1, size // 7), etag = r.etag, size = size, crc64 = r.crc64,
      })
      lu.assertTrue(drain(source) == bytes)
      local plain <close> = s:reader("w", { offset = size // 2 })
      lu.assertTrue(drain(plain) == bytes:sub(size // 2 + 1))
    end
  end

  function class.test_64_mb_go_up_and_down(self)
    local s = self.store
    local piece = pattern(1 << 20)
    local sink <close> = s:writer "big"
    for _ = 1, 64 do sink:write(piece, 1) end
    sink:finish()
    lu.assertEquals(sink:result().size, 64 << 20)
    local source <close> = s:reader("big", { crc64 = sink:result().crc64 })
    local bytes = stream.pump(source, stream.discard()).bytes_out
    lu.assertEquals(bytes, 64 << 20)
  end

  function class.test_a_writer_that_is_closed_leaves_nothing(self)
    local s = self.store
    local sink = s:writer("w", { part_bytes = t.min_part })
    write_all(sink, pattern(2 * t.min_part + 5), 1 << 20)
    sink:close()
    lu.assertEquals(keys_of(s), {})
    lu.assertEquals(s:list_multiparts(), {})
  end

  function class.test_a_reader_refuses_another_object(self)
    local s = self.store
    local info = s:put("o", "first")
    s:put("o", "later")
    for _, expected in ipairs { { etag = info.etag }, { etag = info.etag, size = 5 }, { size = 6 } } do
      local source <close> = s:reader("o", expected)
      raises("integrity", drain, source)
    end
    local source <close> = s:reader("o", { crc64 = "1" })
    raises("integrity", drain, source)
    local none <close> = s:reader "nope"
    raises("not_found", drain, none)
  end

  function class.test_a_reader_may_fetch_ahead_of_its_first_read(self)
    local s = self.store
    for _, size in ipairs { 0, 9, 3000000 } do
      local bytes = pattern(size)
      local info = s:put("a", bytes)
      local source <close> = s:reader("a", { ahead = true, etag = info.etag, size = size, range_bytes = 1 << 20 })
      local _ <close> = s:reader("a", { ahead = true, etag = info.etag, size = size }) -- is never read
      local unpinned <close> = s:reader("a", { ahead = true })
      require "proc".poll({}, 0.02)
      lu.assertTrue(drain(source) == bytes)
      lu.assertTrue(drain(unpinned) == bytes)
    end
    local missing <close> = s:reader("nope", { ahead = true, etag = s:head "a".etag, size = 3 })
    require "proc".poll({}, 0.02)
    raises("not_found", drain, missing)
  end

  function class.test_objects_roll_over_on_what_they_are_given(self)
    local s = self.store
    local sink <close> = s:objects {
      prefix = "d/x-", suffix = ".csv", object_bytes = 250, preamble = "head\n", preamble_raw_bytes = 99,
    }
    local row = ("r"):rep(99) .. "\n"
    for _ = 1, 7 do sink:write(row, 1) end
    sink:finish()
    local objects = sink:objects()
    lu.assertEquals(#objects, 3)
    local rows = { 3, 3, 1 }
    for i, o in ipairs(objects) do
      lu.assertEquals(o.key, ("d/x-%05d.csv"):format(i))
      lu.assertEquals(o.rows, rows[i])
      lu.assertEquals(o.bytes, 5 + 100 * rows[i])
      lu.assertEquals(o.raw_bytes, 99 + 100 * rows[i])
      lu.assertEquals((s:get(o.key)), "head\n" .. row:rep(rows[i]))
      local source <close> = s:reader(o.key, { etag = o.etag, size = o.bytes, crc64 = o.crc64 })
      lu.assertEquals(#drain(source), o.bytes)
    end
  end

  function class.test_no_rows_make_no_object_unless_asked(self)
    local s = self.store
    local none <close> = s:objects { prefix = "e/" }
    none:finish()
    lu.assertEquals(none:objects(), {})
    local one <close> = s:objects { prefix = "e/", empty_object = true, preamble = "h\n" }
    one:finish()
    lu.assertEquals(#one:objects(), 1)
    lu.assertEquals((s:get "e/00001"), "h\n")
  end

  function class.test_rows_are_dealt_evenly_over_a_number_of_objects(self)
    local s = self.store
    local sink <close> = s:objects { prefix = "d/", suffix = ".csv", count = 3, digits = 2, preamble = "h\n",
      preamble_raw_bytes = 9 }
    local row = ("r"):rep(99) .. "\n"
    for _ = 1, 8 do sink:write(row, 1) end
    lu.assertEquals(sink:objects(), {}) -- none is complete before all are
    sink:finish()
    local objects = sink:objects()
    lu.assertEquals(#objects, 3)
    for i, o in ipairs(objects) do
      local rows = i < 3 and 3 or 2
      lu.assertEquals({ o.key, o.rows, o.bytes, o.raw_bytes }, { ("d/%02d.csv"):format(i), rows, 2 + 100 * rows,
        9 + 100 * rows })
      lu.assertEquals((s:get(o.key)), "h\n" .. row:rep(rows))
      local source <close> = s:reader(o.key, { etag = o.etag, size = o.bytes, crc64 = o.crc64 })
      lu.assertEquals(#drain(source), o.bytes)
    end
    lu.assertEquals(#sink:objects(2), 1)
  end

  function class.test_objects_that_got_no_rows_are_there_too(self)
    local s = self.store
    local sink <close> = s:objects { prefix = "d/", count = 20, preamble = "h\n" }
    sink:write("one\n", 1)
    sink:finish()
    lu.assertEquals(#keys_of(s), 20)
    lu.assertEquals(s:get "d/00001" .. s:get "d/00020", "h\none\nh\n")
    local bare <close> = s:objects { prefix = "e/", count = 2 }
    bare:finish()
    lu.assertEquals(bare:objects()[2].bytes, 0)
  end

  function class.test_dealt_objects_are_all_there_or_none(self)
    local s = self.store
    local sink <close> = s:objects { prefix = "d/", count = 9 }
    for _ = 1, 30 do sink:write(("x"):rep(100), 1) end
    sink:abort "no"
    lu.assertEquals(keys_of(s), {})
    s:put("d/00005", "mine")
    local other = s:objects { prefix = "d/", count = 9 }
    local e = raises("exists", function()
      for _ = 1, 30 do other:write(("x"):rep(100), 1) end
      other:finish()
    end)
    lu.assertStrContains(e.message, "d/00005")
    other:close()
    lu.assertEquals(keys_of(s), { "d/00005" })
    lu.assertEquals((s:get "d/00005"), "mine")
    raises("usage", s.objects, s, { prefix = "d/", count = 257 })
  end

  function class.test_several_streams_write_to_the_same_objects(self)
    local s = self.store
    local a <close> = s:objects { prefix = "d/", count = 3 }
    local b <close> = a:another()
    for i = 1, 6 do (i % 2 == 0 and a or b):write(("x"):rep(100), 1) end
    a:finish()
    lu.assertEquals({ a:objects(), keys_of(s) }, { {}, {} })
    b:write(("x"):rep(100), 1)
    b:finish()
    lu.assertEquals(a:objects(), {})
    local rows = {}
    for i, o in ipairs(b:objects()) do rows[i] = o.rows end
    lu.assertEquals(rows, { 3, 2, 2 })
    raises("usage", a.another, a) -- they have ended
    a:remove() -- is not the one that has them
    lu.assertEquals(#keys_of(s), 3)
    b:remove()
    lu.assertEquals(keys_of(s), {})
  end

  function class.test_when_one_stream_to_dealt_objects_fails_all_do(self)
    local s = self.store
    local a <close> = s:objects { prefix = "d/", count = 3 }
    local b <close> = a:another()
    local c <close> = b:another()
    raises("usage", a.another, a) -- no more streams than objects
    c:write("1\n", 1)
    c:finish()
    a:abort "no"
    raises("canceled", b.write, b, "x\n", 1)
    b:close()
    lu.assertEquals(keys_of(s), {})
    local rolling <close> = s:objects { prefix = "e/" }
    raises("usage", rolling.another, rolling)
  end

  function class.test_aborted_objects_are_all_removed(self)
    local s = self.store
    local sink <close> = s:objects { prefix = "d/", object_bytes = 100 }
    for _ = 1, 5 do sink:write(("x"):rep(100), 1) end
    sink:abort "no"
    lu.assertEquals(keys_of(s), {})
  end

  function class.test_objects_never_overwrite_unless_asked(self)
    local s = self.store
    s:put("d/00002", "mine")
    local sink = s:objects { prefix = "d/", object_bytes = 10 }
    local e = raises("exists", function()
      for _ = 1, 4 do sink:write(("x"):rep(10), 1) end
      sink:finish()
    end)
    lu.assertStrContains(e.message, "d/00002")
    sink:close()
    lu.assertEquals(keys_of(s), { "d/00002" })
    lu.assertEquals((s:get "d/00002"), "mine")
  end
end

--- Adds every test, and a setUp that opens an empty store, to the class.
---@param class table
---@param t suite.Traits
function suite.add(class, t)
  function class.setUp(self)
    self.store = t.open()
    suite.empty(self.store)
  end
  function class.tearDown(self)
    suite.empty(self.store)
    self.store:close()
  end
  add_plain(class, t)
  add_keys(class, t)
  add_multipart(class, t)
  add_streams(class, t)
end

return suite
