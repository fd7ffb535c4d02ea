-- Every vector of tests/vectors/{oss-v1,oss-v4,s3-v4}.json, and the encoder and the dates.

local lu = require "luaunit"
local json = require "json"
local sign = require "tidemill.sign"

local schemes = {
  ["OSS-V1-HMAC-SHA1"] = "oss-v1",
  ["OSS4-HMAC-SHA256"] = "oss-v4",
  ["AWS4-HMAC-SHA256"] = "s3-v4",
}

-- What a presigned URL's query holds beyond the caller's own parameters.
local presign_parameters = {
  ["OSSAccessKeyId"] = true, ["Expires"] = true, ["Signature"] = true,
  ["security-token"] = true,
}

local function is_presign_parameter(name)
  return presign_parameters[name] or name:find "^x%-oss%-signature" or
    name:find "^x%-oss%-credential" or name == "x-oss-date" or name == "x-oss-expires" or
    name == "x-oss-additional-headers" or name == "x-oss-security-token" or
    (name:find "^X%-Amz%-" and name ~= "X-Amz-Content-Sha256")
end

local function load(name)
  local file = assert(io.open("tests/vectors/" .. name .. ".json"))
  local text = file:read "a"
  file:close()
  return json.decode(text)
end

local function optional(value)
  if value ~= json.null then
    return value
  end
end

local function pairs_of(map, skip)
  local list = {}
  for name, value in pairs(optional(map) or {}) do
    if not (skip and skip(name)) then
      list[#list + 1] = { name, optional(value) }
    end
  end
  return list
end

local function request_of(v, skip)
  local request = {
    scheme = schemes[v.scheme],
    method = v.method,
    bucket = optional(v.bucket),
    key = optional(v.key),
    path = v.url.raw_path,
    region = v.region,
    query = pairs_of(v.query, skip),
    headers = pairs_of(v.headers),
    payload_hash = v.headers["x-amz-content-sha256"],
    time = sign.parse_iso_basic((v.date:gsub("[-:]", ""))),
    expires = optional(v.expires_in),
    access_key_id = v.credentials.access_key_id,
    access_key_secret = v.credentials.access_key_secret,
    security_token = optional(v.credentials.security_token),
  }
  if optional(v.additional_headers) then
    request.additional_headers = table.concat(v.additional_headers, ";")
  end
  if optional(v.signed_headers) then
    request.signed_headers = table.concat(v.signed_headers, ";")
  end
  return request
end

local function check(v)
  local request = request_of(v)
  local got, want = sign.sign(request), v.expected
  lu.assertEquals(got.canonical_request, want.canonical_request or "", v.name)
  lu.assertEquals(got.string_to_sign, want.string_to_sign, v.name)
  lu.assertEquals(got.signature, want.signature, v.name)
  if want.authorization then
    lu.assertEquals(got.authorization:gsub(",%s*", ","),
                    want.authorization:gsub(",%s*", ","), v.name)
  end
end

-- The same URL made from the caller's own parameters alone.
local function check_presign(v)
  local request = request_of(v, is_presign_parameter)
  local names = { "Signature", "x-oss-signature", "X-Amz-Signature" }
  local query = {}
  for name, value in sign.presign(request):gmatch "([^&=]+)=?([^&]*)" do
    query[sign.decode(name)] = sign.decode(value)
  end
  local signature
  for _, name in ipairs(names) do
    signature = signature or query[name]
  end
  lu.assertEquals(signature, v.expected.signature, v.name)
  for name, value in pairs(v.query) do
    lu.assertEquals(query[name], optional(value) or "", v.name)
  end
end

local function check_chunks(v)
  local previous, list = v.expected.signature, {}
  for _, chunk in ipairs(v.expected.chunks) do
    local data = (chunk.data["repeat"] or ""):rep(chunk.data.size)
    list[#list + 1] = { want = chunk, data = data }
  end
  if v.expected.trailer then
    local trailer = v.expected.trailer
    list[#list + 1] = { want = trailer, data = trailer.trailer_text, trailer = true }
  end
  for _, link in ipairs(list) do
    local signature, string_to_sign = sign.chunk {
      secret = v.credentials.access_key_secret,
      time = sign.parse_iso_basic(v.amz_date),
      region = v.region,
      previous = previous,
      data_sha256 = sign.sha256(link.data),
      trailer = link.trailer,
    }
    lu.assertEquals(string_to_sign, link.want.string_to_sign, v.name)
    lu.assertEquals(signature, link.want.signature, v.name)
    previous = signature
  end
end

TestVectors = {}

local function check_file(name, count)
  local vectors = load(name)
  lu.assertEquals(#vectors, count)
  local presigned, streamed = 0, 0
  for _, v in ipairs(vectors) do
    check(v)
    if v.mode == "query" then
      check_presign(v)
      presigned = presigned + 1
    elseif v.mode == "streaming" then
      check_chunks(v)
      streamed = streamed + 1
    end
  end
  return presigned, streamed
end

function TestVectors:test_oss_v1_signs_as_the_vendors_client()
  lu.assertEquals(check_file("oss-v1", 49), 5)
end

function TestVectors:test_oss_v4_signs_as_the_vendors_client()
  lu.assertEquals(check_file("oss-v4", 47), 6)
end

function TestVectors:test_s3_v4_signs_as_the_vendors_client()
  local presigned, streamed = check_file("s3-v4", 51)
  lu.assertEquals({ presigned, streamed }, { 5, 2 })
end

TestSign = {}

local function plain(changes)
  local request = {
    scheme = "s3-v4", method = "GET", bucket = "b", key = "k", path = "/k",
    region = "us-east-1", headers = { { "Host", "b.example" } }, query = {},
    time = 1700000000, access_key_id = "id", access_key_secret = "secret",
  }
  for name, value in pairs(changes or {}) do
    request[name] = value
  end
  return request
end

function TestSign:test_a_repeated_header_is_joined_by_a_comma()
  local got = sign.sign(plain { headers = { { "host", "h" }, { "x-amz-a", "2" },
                                           { "X-Amz-A", "1" } } })
  lu.assertStrContains(got.canonical_request, "\nx-amz-a:2,1\n")
end

function TestSign:test_missing_parts_are_usage_errors()
  for _, change in ipairs { { scheme = "none" }, { region = "" }, { access_key_id = "" } } do
    local ok, err = pcall(sign.sign, plain(change))
    lu.assertFalse(ok)
    lu.assertEquals(err.kind, "usage")
    lu.assertNotStrContains(tostring(err), "secret'")
  end
end

function TestSign:test_a_presigned_url_lasts_at_most_seven_days()
  lu.assertStrContains(sign.presign(plain { expires = 604800 }), "X-Amz-Signature=")
  for _, seconds in ipairs { 0, -1, 604801 } do
    local ok, err = pcall(sign.presign, plain { expires = seconds })
    lu.assertFalse(ok)
    lu.assertEquals(err.kind, "usage")
  end
end

TestEncode = {}

function TestEncode:test_only_unreserved_characters_stay()
  lu.assertEquals(sign.encode "aZ09-_.~/ +*%'()!\1\255",
                  "aZ09-_.~%2F%20%2B%2A%25%27%28%29%21%01%FF")
  lu.assertEquals(sign.encode_path "a b/../é", "a%20b/../%C3%A9")
end

function TestEncode:test_decoding_undoes_encoding_of_every_byte()
  local all = {}
  for i = 0, 255 do
    all[#all + 1] = string.char(i)
  end
  local text = table.concat(all)
  lu.assertEquals(sign.decode(sign.encode(text)), text)
  lu.assertEquals(sign.decode "a+b%2b", "a+b+")
end

function TestEncode:test_a_broken_escape_is_refused()
  for _, text in ipairs { "%", "a%4", "%zz", "%%41", "%-1" } do
    local ok, err = pcall(sign.decode, text)
    lu.assertFalse(ok, text)
    lu.assertEquals(err.kind, "data")
  end
end

function TestEncode:test_dates_are_written_and_read()
  local t = 1717315750
  lu.assertEquals(sign.date_rfc1123(t), "Sun, 02 Jun 2024 08:09:10 GMT")
  lu.assertEquals(sign.date_iso_basic(t), "20240602T080910Z")
  lu.assertEquals(sign.date_iso(t), "2024-06-02T08:09:10.000Z")
  lu.assertEquals(sign.parse_rfc1123 "Sun, 02 Jun 2024 08:09:10 GMT", t)
  lu.assertEquals(sign.parse_iso_basic "20240602T080910Z", t)
end

function TestEncode:test_malformed_dates_are_refused()
  for _, text in ipairs { "", "Sun, 2 Jun 2024 08:09:10 GMT", "Mon, 02 Jun 2024 08:09:10 GMT",
                          "Sun, 02 Jun 2024 08:09:10", "Sun, 02 Jun 2024 24:09:10 GMT" } do
    lu.assertNil(sign.parse_rfc1123(text), text)
  end
  for _, text in ipairs { "20240230T000000Z", "20240602T080910", "20240602 080910Z",
                          "20241302T080910Z", "20240602T080960Z" } do
    lu.assertNil(sign.parse_iso_basic(text), text)
  end
end

function TestEncode:test_base64_is_strict()
  for _, text in ipairs { "", "f", "fo", "foo", "\0\255" } do
    lu.assertEquals(sign.unbase64(sign.base64(text)), text)
  end
  for _, text in ipairs { "Zg", "Zg=", "Z===", "====", "Zm9v\n", " Zg=", "Zm=v" } do
    lu.assertFalse(pcall(sign.unbase64, text), text)
  end
end

os.exit(lu.LuaUnit.run())
