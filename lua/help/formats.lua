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
    object_size         a new object starts at about so many bytes as stored
                        (default "256MB"); objects end between rows

Objects are named after node, run and attempt, so no attempt touches another's:

    orders/2026-01-01/out-RUN-1-00001.csv.gz
    orders/2026-01-01/_manifest.json

The manifest is written last and is the commit: objects with rows, bytes and CRC64, the columns
and their types, the query and its snapshot. What no manifest lists does not exist for a load.
]]
