--- The SQL of the modes of a load, as text.

local lu = require "luaunit"
local publish = require "tidemill.load.publish"

TestPublish = {}

local function publication(fields)
  local p = { into = "public.t", name = '"t"', stage = "tidemill.stage_1", columns = { '"k"', '"a"', '"b"' },
    flavor = "postgresql", lockable = true, overriding = true }
  for key, value in pairs(fields) do p[key] = value end
  return p
end

local function sql(fields)
  local list = {}
  for i, one in ipairs(publish.statements(publication(fields))) do
    list[i] = (one.counts and one.counts .. ": " or "") .. one.sql
  end
  return list
end

local INSERT = 'inserted: INSERT INTO public.t ("k", "a", "b") OVERRIDING SYSTEM VALUE SELECT "k", "a", "b" FROM tidemill.stage_1'

function TestPublish.test_append_and_replace()
  lu.assertEquals(sql { mode = "append" }, { INSERT })
  lu.assertEquals(sql { mode = "replace" }, { "TRUNCATE TABLE public.t", INSERT })
  lu.assertEquals(sql { mode = "replace", delete = true }, { "LOCK TABLE public.t IN SHARE ROW EXCLUSIVE MODE",
    "deleted: DELETE FROM public.t", INSERT })
  lu.assertEquals(sql { mode = "replace", delete = true, lockable = false, overriding = false, columns = { '"k"' } },
    { "deleted: DELETE FROM public.t", 'inserted: INSERT INTO public.t ("k") SELECT "k" FROM tidemill.stage_1' })
end

function TestPublish.test_a_comment_at_the_end_of_a_predicate_swallows_nothing()
  lu.assertEquals(sql { mode = "replace_where", where = "day = 'x' -- today" }, {
    "SELECT pg_advisory_xact_lock(hashtext('tidemill'), hashtext('public.t day = ''x'' -- today'))",
    "deleted: DELETE FROM public.t WHERE (day = 'x' -- today\n)", INSERT })
  local refusal = publish.refusals(publication { mode = "replace_where", where = "day = 'x' -- today" })
  lu.assertEquals(refusal[1].sql, "SELECT count(*) FROM tidemill.stage_1 AS \"t\" WHERE (day = 'x' -- today\n) IS NOT TRUE")
end

local MERGE = { mode = "merge", keys = { '"k"' }, order_by = { '"b"' }, ties = { "q.n" } }

local function merge(fields)
  local all = {}
  for key, value in pairs(MERGE) do all[key] = value end
  for key, value in pairs(fields or {}) do all[key] = value end
  return all
end

function TestPublish.test_merge_updates_and_inserts()
  lu.assertEquals(sql(merge()), { "LOCK TABLE public.t IN SHARE ROW EXCLUSIVE MODE",
    'updated: UPDATE public.t AS t SET "a" = s."a", "b" = s."b" FROM tidemill.stage_1 AS s WHERE t."k" = s."k"',
    INSERT .. ' AS s WHERE NOT EXISTS (SELECT 1 FROM public.t AS t WHERE t."k" = s."k")' })
end

function TestPublish.test_merge_of_keys_alone_has_nothing_to_update()
  lu.assertEquals(#sql(merge { keys = { '"k"', '"a"', '"b"' } }), 2)
end

function TestPublish.test_merge_deletes_what_is_marked_and_does_not_insert_it()
  local list = sql(merge { delete_when = "a = 'D'" })
  lu.assertEquals(list[2], 'deleted: DELETE FROM public.t AS t USING (SELECT * FROM tidemill.stage_1 AS "t" WHERE (a = \'D\'\n)) '
    .. 'AS s WHERE t."k" = s."k"')
  for i = 3, 4 do lu.assertStrContains(list[i], "WHERE (a = 'D'\n) IS NOT TRUE) AS s WHERE ") end
end

function TestPublish.test_rows_may_be_put_in_anew()
  local list = sql(merge { anew = true, flavor = "greenplum", overriding = false })
  lu.assertEquals(list[2], 'updated: DELETE FROM public.t AS t USING tidemill.stage_1 AS s WHERE t."k" = s."k"')
  lu.assertStrContains(publish.dedup(publication(merge { flavor = "greenplum" })),
    "WHERE d.place > 1 AND s.gp_segment_id = d.id1 AND s.ctid = d.id2")
end

function TestPublish.test_the_last_of_a_key_stays()
  lu.assertNil(publish.dedup(publication { mode = "replace" }))
  lu.assertEquals(publish.dedup(publication(merge { keys = { '"k"', '"a"' } })),
    'DELETE FROM tidemill.stage_1 AS s USING (SELECT q.ctid AS id1, row_number() OVER (PARTITION BY q."k", q."a" ' ..
    'ORDER BY q."b" DESC NULLS LAST, q.n DESC) AS place FROM tidemill.stage_1 AS q) AS d WHERE d.place > 1 AND s.ctid = d.id1')
end

function TestPublish.test_keys_are_never_null()
  local refusal = publish.refusals(publication(merge { keys = { '"k"', '"a"' } }))
  lu.assertEquals(refusal[1].sql, 'SELECT count(*) FROM tidemill.stage_1 WHERE "k" IS NULL OR "a" IS NULL')
  lu.assertEquals(publish.refusals(publication { mode = "append" }), {})
end

os.exit(lu.LuaUnit.run())
