---@meta oss
--- Object stores: Alibaba Cloud OSS (oss://), Amazon S3 and compatible (s3://), and a
--- directory (file://), all used in the same way.
---
---     local oss = require "oss"
---
---     local store <close> = oss.open("oss://my-bucket/lake", {
---       endpoint = "oss-cn-hangzhou.aliyuncs.com",
---     })
---     store:put("hello.txt", "hello\n", { content_type = "text/plain" })
---     local text = store:get "hello.txt"
---     io.write(text)                               --> hello
---     for entry in store:list { prefix = "orders/", delimiter = "/" } do
---       print(entry.key, entry.size)
---     end
---
--- Keys are bytes relative to the prefix in the store's URL and are taken as they are: no
--- encoding, no normalisation. What may succeed on repetition (a broken connection, 5xx,
--- throttling, an expired token, a wrong clock, a wrong region) is repeated with growing
--- pauses; the rest fails at once. CRC64 of uploads and downloads is compared with that of
--- the store where it has one (OSS).
---
--- Errors are raised, with kind not_found, exists, conflict, auth, throttled, server, connect,
--- timeout, io, integrity, usage or canceled, the store's `code`, the HTTP `status` and the
--- `request_id`. Keys and secrets are never part of them.

local oss = {}

---@class oss.Options
---@field url? string            "oss://bucket[/prefix]", "s3://bucket[/prefix]" or "file:///dir"
---@field endpoint? string       "host[:port]" (https) or "http(s)://host[:port]" (default: OSS_ENDPOINT or
---AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL; else the vendor's host of the region)
---@field region? string         "cn-hangzhou", "us-east-1" (default: from the endpoint, else
---OSS_REGION or AWS_REGION, AWS_DEFAULT_REGION; for s3:// else us-east-1)
---@field addressing? "auto"|"virtual"|"path"|"cname"  where the bucket stands: in the host name,
---in the path, or nowhere (custom domain); auto: path for IP addresses and private S3 servers
---@field signature? "v4"|"v1"   v1 for old OSS set-ups (default "v4")
---@field anonymous? boolean     do not sign (default false)
---@field access_key_id? string  with access_key_secret, and security_token for temporary
---keys; without them the environment (OSS_ACCESS_KEY_ID ..., AWS_ACCESS_KEY_ID ...), profile files and
---the instance's role are asked, in this order
---@field access_key_secret? string
---@field security_token? string
---@field profile? string        section of the profile files, whose keys then go before the
---environment's: ~/.ossutilconfig, ~/.aliyun/config.json; ~/.aws/credentials, ~/.aws/config. A
---profile also gives endpoint, region and addressing where options and environment do not
---(default: OSS_PROFILE or AWS_PROFILE, else "default")
---@field role_name? string      instance role, then the only place that is asked (default: the one
---the instance has)
---@field ca_file? string        PEM file of the authorities to trust instead of the system's
---@field proxy? string          proxy URL (default none; http_proxy is not read)
---@field connect_timeout? number  seconds (default 10)
---@field stall_timeout? number  seconds without a byte either way that count as broken (default 30)
---@field attempts? integer      tries of one request (default 5)
---@field retry_time? number     seconds after which no new try is made, though two repetitions
---always are (default 180)

---@class oss.Info
---@field key string
---@field size? integer          bytes (absent after copy)
---@field etag? string           without quotes; changes whenever the object does
---@field crc64? string          CRC-64/XZ in decimal, where known
---@field modified_ms? integer   milliseconds since 1970 UTC
---@field content_type? string
---@field storage_class? string
---@field version_id? string
---@field metadata table<string, string>  names in lower case

---@class oss.PutOptions
---@field content_type? string   (default "application/octet-stream")
---@field metadata? table<string, string>  user metadata: plain ASCII; 8 KB on OSS, 2 KB on S3
---@field create_only? boolean   raise kind "exists" when the key is there (default false)

---@class oss.Entry
---@field key string             key, or common prefix ending in the delimiter
---@field prefix? boolean        true for a common prefix; the fields below are then absent
---@field size? integer
---@field modified_ms? integer
---@field etag? string
---@field storage_class? string

---@class oss.ListOptions
---@field prefix? string         only keys that begin so
---@field delimiter? string      fold keys at the next delimiter after the prefix ("/")
---@field start_after? string    only keys after this one
---@field page_size? integer     entries a request asks for, 1 to 1000 (default 1000)

---@class oss.Part
---@field number integer         1 to 10000
---@field etag string
---@field size integer
---@field crc64? string

--- Opens a store. Talks to nobody: a wrong key or a missing bucket shows at the first use.
---
---     oss.open("s3://logs", { endpoint = "http://127.0.0.1:9000", profile = "dev" })
---     oss.open { url = "file:///srv/lake" }
---
--- A file:// store keeps neither content type nor metadata; its keys are relative paths
--- without empty, "." or ".." parts; objects appear whole, after fsync.
---@param url string|oss.Options
---@param opts? oss.Options
---@return oss.Store
function oss.open(url, opts) end

---@class oss.Store
local Store = {}

--- Uploads one object from memory; for large ones use Store:writer.
---@param key string
---@param bytes string
---@param opts? oss.PutOptions
---@return oss.Info
function Store:put(key, bytes, opts) end

--- Downloads an object or a range of it. A broken body is resumed where it broke.
---
--- Raises not_found; conflict when `if_match` does not hold; integrity when the CRC64
--- differs; usage (code "InvalidRange") when the offset lies beyond the end.
---@param key string
---@param opts? { offset: integer?, length: integer?, if_match: string?, limit: integer? }
---offset counts from 0; limit is the most bytes to accept (default 1 GiB)
---@return string bytes
---@return oss.Info info  size is that of the whole object
function Store:get(key, opts) end

--- What the store knows of an object; nil when there is none.
---@param key string
---@return oss.Info?
function Store:head(key) end

--- Iterates over the objects in ascending byte order of their keys, page by page.
---@param opts? string|oss.ListOptions  a string is the prefix
---@return fun(): oss.Entry?
function Store:list(opts) end

--- Deletes one object. One that is not there is fine.
---@param key string
function Store:delete(key) end

--- Deletes any number of objects, a thousand a request.
---@param keys string[]
---@return { key: string, code: string, message: string }[] failed  what could not be deleted
function Store:delete_many(keys) end

--- Copies within the bucket, at the server; metadata goes along. At most 5 GB.
---@param from string
---@param to string
---@param opts? { create_only: boolean? }
---@return oss.Info  etag of the copy
function Store:copy(from, to, opts) end

--- A URL with which anybody may GET or PUT the key until it expires. file:// has none.
---
---     local url = store:presign("GET", "report.pdf", { expires = 600 })
---@param method "GET"|"PUT"
---@param key string
---@param opts? { expires: integer?, content_type: string? }  seconds, 1 to 604800 (default
---3600); the content type that an uploader must then send
---@return string url
function Store:presign(method, key, opts) end

--- Begins a multipart upload. Store:writer does all this by itself.
---@param key string
---@param opts? oss.PutOptions
---@return string upload_id
function Store:create_multipart(key, opts) end

--- Uploads one part; an earlier one of the same number is replaced. Every part but the last has
--- at least 100 KiB (OSS) or 5 MiB (S3).
---@param key string
---@param upload_id string
---@param number integer  1 to 10000
---@param bytes string
---@return oss.Part
function Store:upload_part(key, upload_id, number, bytes) end

--- Joins the parts, given in ascending order, into the object.
---@param key string
---@param upload_id string
---@param parts oss.Part[]
---@param opts? { create_only: boolean? }
---@return oss.Info
function Store:complete_multipart(key, upload_id, parts, opts) end

--- Drops an upload and its parts. One that is gone is fine.
---@param key string
---@param upload_id string
function Store:abort_multipart(key, upload_id) end

--- The parts uploaded so far, in order.
---@param key string
---@param upload_id string
---@return oss.Part[]
function Store:list_parts(key, upload_id) end

--- Unfinished multipart uploads.
---@param prefix? string
---@return { key: string, upload_id: string, started_ms: integer }[]
function Store:list_multiparts(prefix) end

---@class oss.ReaderOptions
---@field range_bytes? integer   bytes of a request (default 8 MiB)
---@field parallel? integer      requests ahead (default 3, at most 16)
---@field offset? integer        first byte (default 0)
---@field length? integer        bytes (default: to the end)
---@field etag? string           what the object must be: reading raises integrity when its etag,
---@field size? integer          size
---@field crc64? string          or CRC64 is another one
---@field ahead? boolean         with `etag` and `size`: fetches the first range at once, not at the first read
---(default false)

--- A source that reads one object: ranges are fetched ahead in parallel, bytes come in order.
---
--- All requests are pinned to one etag: an object that is replaced meanwhile raises
--- conflict. The end is reported only when size and, where known, CRC64 are right.
---@param key string
---@param opts? oss.ReaderOptions
---@return oss.Reader
function Store:reader(key, opts) end

---@class oss.Reader : stream.Source
local Reader = {}

--- Bytes of the whole object; nil before the first read.
---@return integer?
function Reader:size() end

---@class oss.WriterOptions : oss.PutOptions
---@field part_bytes? integer    (default 8 MiB; raised to the store's least)
---@field parallel? integer      parts in flight (default 3, at most 16)
---@field budget_bytes? integer  memory for parts (default 40 MiB)

--- A sink that streams into one object, which appears at finish or not at all.
---
--- Up to one part goes as a plain put, more as a multipart upload; that is aborted when the
--- stream fails, is cancelled or closed. Parts grow with their number; with the default budget
--- the largest object has about 170 GiB.
---@param key string
---@param opts? oss.WriterOptions
---@return oss.Writer
function Store:writer(key, opts) end

---@class oss.Writer : stream.Sink
local Writer = {}

--- What was written, after finish; nil before. `parts` is 0 for a plain put.
---@return { size: integer, etag: string, crc64: string, parts: integer }?
function Writer:result() end

---@class oss.ObjectsOptions : oss.WriterOptions
---@field prefix string          keys are prefix, number (from 1), suffix
---@field suffix? string         (default "")
---@field digits? integer        of the number (default 5: "00001")
---@field object_bytes? integer  size at which the next object is begun (default 128 MiB)
---@field first_bytes? integer   begin with an object of so many; the next has what all before it have,
---until that is object_bytes (default: all are of one size)
---@field count? integer         instead of both: so many objects, 1 to 256, over which rows are dealt evenly. All of
---them are there after finish and none before, those without rows too; each has the writer's options to itself
---@field preamble? string       bytes at the start of each object: a header line, compressed if
---the rest is
---@field preamble_raw_bytes? integer  its size before compression (default: its size)
---@field overwrite? boolean     replace objects that are there (default false: raise exists)
---@field empty_object? boolean  make one object even when nothing was written (default false)

--- A sink that rolls over objects of about one size, split on the bounds of what it is
--- given, so that no row is cut. An abort deletes the objects already completed as well.
---@param opts oss.ObjectsOptions
---@return oss.Objects
function Store:objects(opts) end

---@class oss.Objects : stream.Sink
local Objects = {}

--- The objects completed so far, in order; all of them after finish. May be asked while a job
--- writes.
---@param after? integer  leave out so many of the first (default 0)
---@return { key: string, rows: integer, bytes: integer, raw_bytes: integer, crc64: string, etag: string }[]
function Objects:objects(after) end

--- A descriptor for `stream.wait`: it can be read while an object is completed that `objects` did not give.
--- Nil with a `count`, whose objects are all completed at the end.
---@return integer?
function Objects:fd() end

--- Deletes, after finish, what was completed, as an abort does before it; also on Ctrl-C. What cannot
--- be deleted within some seconds stays.
function Objects:remove() end

--- One more sink to the same objects, of which there is a `count`: for another job. Made before any of
--- them ends, and no more than there are objects. The last to finish completes the objects, and has the
--- list of them; when one fails, all do.
---@return oss.Objects
function Objects:another() end

--- Makes the store's bucket. One that is yours already is fine.
function Store:create_bucket() end

--- Deletes the store's bucket, which must be empty (else code BucketNotEmpty).
function Store:delete_bucket() end

--- "oss://bucket/prefix/"
---@return string
function Store:url() end

--- Closes the store. Streams made from it go on to work.
function Store:close() end

return oss
