// The official OSS client against ossd: signatures V1 and V4. Prints "ok NAME" or
// "FAILED NAME: why" for each fact; the modules are those of $TM_CLIENTS/node_modules.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { checks, run, random, fetchAt } from "./checks.mjs";

const require = createRequire(process.env.TM_CLIENTS + "/");
const OSS = require("ali-oss");
const bucket = "ali-" + random(8);

function client(v4, more) {
  return new OSS({
    endpoint: process.env.TM_OSSD, region: "oss-cn-test", authorizationV4: v4,
    accessKeyId: process.env.TM_OSSD_ID, accessKeySecret: process.env.TM_OSSD_SECRET,
    bucket, secure: false, timeout: 30000, retryMax: 0, ...more,
  });
}

async function refused(code, status, promise) {
  await assert.rejects(promise, (e) => {
    assert.equal(e.code, code, e.message);
    assert.equal(e.status, status);
    return true;
  });
}

// This client takes dot segments out of its own URLs; those keys are tested elsewhere.
const odd = ["a b+c%d", "目录/文件.txt", "slash//two/", "!'()*&?#=;,:@$[]<>\"\\|^`{}~",
  "tab\tand\x01control", "e\u0301\u{1F600}"];

for (const v4 of [false, true]) {
  const v = v4 ? "v4 " : "v1 ";
  const c = client(v4);
  const body = Buffer.from("hello " + v);

  checks[v + "put, head, get, delete"] = async () => {
    const put = await c.put("plain", body, { headers: { "Content-Type": "text/plain" },
      meta: { Color: "blue" } });
    assert.equal(put.res.status, 200);
    assert.match(put.res.headers.etag, /^"[0-9A-F]{32}"$/);
    assert.match(put.res.headers["x-oss-hash-crc64ecma"], /^\d+$/);
    const head = await c.head("plain");
    assert.equal(head.meta.color, "blue");
    assert.equal(head.res.headers["content-type"], "text/plain");
    assert.equal(Number(head.res.headers["content-length"]), body.length);
    const got = await c.get("plain");
    assert.deepEqual(got.content, body);
    assert.equal(got.res.headers["x-oss-hash-crc64ecma"], put.res.headers["x-oss-hash-crc64ecma"]);
    await c.delete("plain");
    await refused("NoSuchKey", 404, c.get("plain"));
    await assert.rejects(c.head("plain"), { status: 404, code: "NoSuchKey" });
  };

  checks[v + "odd keys come back as they went"] = async () => {
    for (const key of odd) {
      await c.put(key, Buffer.from(key));
      const got = await c.get(key);
      assert.equal(got.content.toString(), key);
    }
    const seen = [];
    let token;
    do {
      const page = await c.listV2({ "max-keys": 3, "encoding-type": "url",
        ...(token ? { "continuation-token": token } : {}) });
      seen.push(...(page.objects ?? []).map((o) => o.name));
      token = page.nextContinuationToken;
    } while (token);
    assert.deepEqual(seen.map(decodeURIComponent).sort(), [...odd].sort()); // not its job
    await c.deleteMulti(odd.filter((k) => !/[\x00-\x08]/.test(k)));
    await c.delete(odd.find((k) => /[\x00-\x08]/.test(k)));
    assert.deepEqual((await c.listV2({})).objects ?? [], []);
  };

  checks[v + "list pages with a delimiter"] = async () => {
    for (const k of ["d/1", "d/2", "e", "f/1"]) await c.put(k, Buffer.from(k));
    const names = [], prefixes = [];
    let marker;
    for (;;) {
      const page = await c.list({ delimiter: "/", "max-keys": 1, ...(marker ? { marker } : {}) });
      names.push(...(page.objects ?? []).map((o) => o.name));
      prefixes.push(...(page.prefixes ?? []));
      if (!page.isTruncated) break;
      marker = page.nextMarker;
    }
    assert.deepEqual([names, prefixes], [["e"], ["d/", "f/"]]);
    await c.deleteMulti(["d/1", "d/2", "e", "f/1"], { quiet: true });
  };

  checks[v + "multipart upload of five parts"] = async () => {
    const data = Buffer.alloc(5 * 102400 - 77, "0123456789abcdef");
    const made = await c.multipartUpload("big", data, { partSize: 102400, parallel: 3 });
    assert.equal(made.res.status, 200);
    const got = await c.get("big");
    assert.ok(got.content.equals(data));
    assert.match(got.res.headers.etag, /^"[0-9A-F]{32}-5"$/);
    const part = await c.get("big", { headers: { Range: "bytes=102390-204810" } });
    assert.equal(part.res.status, 206);
    assert.ok(part.content.equals(data.subarray(102390, 204811)));
    await c.delete("big");
  };

  checks[v + "a small middle part is refused at complete"] = async () => {
    const { uploadId } = await c.initMultipartUpload("small");
    const one = await c.uploadPart("small", uploadId, 1, Buffer.from("x"), 0, 1);
    const two = await c.uploadPart("small", uploadId, 2, Buffer.from("y"), 0, 1);
    await refused("EntityTooSmall", 400, c.completeMultipartUpload("small", uploadId,
      [{ number: 1, etag: one.etag }, { number: 2, etag: two.etag }]));
    await refused("InvalidPart", 400, c.completeMultipartUpload("small", uploadId,
      [{ number: 1, etag: '"00000000000000000000000000000000"' }]));
    assert.equal((await c.listParts("small", uploadId)).parts.length, 2);
    assert.equal((await c.listUploads({})).uploads.length, 1);
    await c.abortMultipartUpload("small", uploadId);
    await refused("NoSuchUpload", 404, c.listParts("small", uploadId));
  };

  checks[v + "copy keeps bytes and metadata"] = async () => {
    await c.put("from +", body, { meta: { a: "1" } });
    await c.copy("to", "from +");
    assert.deepEqual((await c.get("to")).content, body);
    assert.equal((await c.head("to")).meta.a, "1");
    await c.deleteMulti(["from +", "to"]);
  };

  checks[v + "forbid-overwrite keeps the first"] = async () => {
    const headers = { "x-oss-forbid-overwrite": "true" };
    await c.put("once", body, { headers });
    await refused("FileAlreadyExists", 409, c.put("once", Buffer.from("other"), { headers }));
    assert.deepEqual((await c.get("once")).content, body);
    await c.delete("once");
  };

  checks[v + "presigned URLs get and put, and no other object"] = async () => {
    const named = client(v4, { endpoint: process.env.TM_OSSD.replace("127.0.0.1", "localhost") });
    const sign = (name, method) => v4
      ? named.signatureUrlV4(method, 60, {}, name)
      : named.signatureUrl(name, { method, expires: 60 });
    const put = await fetchAt(await sign("signed é", "PUT"), "PUT", body);
    assert.equal(put.status, 200, put.text);
    const url = await sign("signed é", "GET");
    const got = await fetchAt(url);
    assert.equal(got.text, body.toString());
    const other = await fetchAt(url.replace("signed", "singed"));
    assert.equal(other.status, 403);
    assert.match(other.text, /<Code>SignatureDoesNotMatch<.*<StringToSign>/s);
    assert.equal((await fetchAt(url, "DELETE")).status, 403);
    await c.delete("signed é");
  };

  checks[v + "a wrong secret or an unknown key is refused"] = async () => {
    await refused("SignatureDoesNotMatch", 403,
      client(v4, { accessKeySecret: "wrong" }).get("plain"));
    await refused("InvalidAccessKeyId", 403, client(v4, { accessKeyId: "nobody" }).get("plain"));
  };

  checks[v + "a temporary key needs its token"] = async () => {
    const keys = { accessKeyId: process.env.TM_OSSD_STS_ID,
      accessKeySecret: process.env.TM_OSSD_STS_SECRET };
    const sts = client(v4, { ...keys, stsToken: process.env.TM_OSSD_STS_TOKEN });
    await sts.put("sts", body);
    await sts.delete("sts");
    await refused("InvalidSecurityToken", 403, client(v4, keys).put("sts", body));
    await refused("InvalidSecurityToken", 403,
      client(v4, { ...keys, stsToken: "other" }).put("sts", body));
  };
}

const owner = client(true);
await owner.putBucket(bucket);
const failed = await run();
if (failed) process.exit(failed);
const names = (await owner.listBuckets({})).buckets.map((b) => b.name);
assert.ok(names.includes(bucket));
await owner.deleteBucket(bucket);
console.log("ok the bucket is listed, and deleted once it is empty");
