return [[
# Formats of objects

flow.extract writes what PostgreSQL's COPY writes, and flow.load reads it by the manifest.

    format = "csv"      RFC 4180 as PostgreSQL does it: NULL is an empty field without quotes, an
                        empty text is "". delimiter (","), quote ('"'), escape (the quote),
                        null (""), header (false: no line of names)
    format = "text"     COPY's text format: a tab between fields, \N for NULL, backslash escapes.
                        delimiter, null
    encoding            of the objects (default "UTF8")
    compress            none, gzip or zstd, with `level`
    object_size         a new object starts at about so many bytes as stored (default: by the size of the
                        table, 8 to 64 MB; of a query 32 MB; the first ones are smaller where a load takes
                        them meanwhile); objects end between rows

Objects are named after node, business time, run, attempt and job, so no attempt touches another's,
and each attempt has a manifest of its own:

    orders/2026-01-01/out-20260101T000000Z-RUN-1-1-000001.csv.gz
    orders/2026-01-01/_manifest/20260101T000000Z-RUN-out-0001.json

The manifest is put last and is the commit: objects with rows, bytes and CRC64, the columns and
their types, the query and its snapshot. What no manifest lists does not exist for a load. It is one
JSON value, with a line for each object.

A load reads the manifest that an extract of its own run put in the same place, else the one that a
wait_for before it has found there; without either, the newest: that of the greatest name. So what was
extracted to a place replaces what was there, and the older data stays until somebody removes it
(`tidemill sweep --replaced`).

An extract that is killed leaves objects that no manifest lists, and unfinished uploads. The next
attempt of its node removes them; `tidemill sweep lake:orders/` removes what is left where none
follows. A rule of the bucket that ends uploads by their age does no harm, if the longest extract
fits into it.
]]
