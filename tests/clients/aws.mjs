// The official S3 client against ossd, with and without its default checksums. Prints
// "ok NAME" or "FAILED NAME: why" for each fact; modules are those of $TM_CLIENTS.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { checks, run, random, fetchAt } from "./checks.mjs";

const require = createRequire(process.env.TM_CLIENTS + "/");
const s3 = require("@aws-sdk/client-s3");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");
const Bucket = "aws-" + random(8);

function client(more) {
  return new s3.S3Client({
    endpoint: process.env.TM_OSSD, region: "cn-test", forcePathStyle: true, maxAttempts: 1,
    credentials: { accessKeyId: process.env.TM_OSSD_ID,
      secretAccessKey: process.env.TM_OSSD_SECRET },
    ...more,
  });
}

const refused = (name, status, promise) => assert.rejects(promise, (e) => {
  assert.equal(e.name, name, e.message);
  assert.equal(e.$metadata.httpStatusCode, status);
  return true;
});

const odd = ["a b+c%d", "目录/文件.txt", "dots/../x", "./y", "slash//two/", "/leading",
  "!'()*&?#=;,:@$[]<>\"\\|^`{}~", "tab\tand\x01control", "e\u0301\u{1F600}", "UPPER", "upper",
  "k".repeat(1024)];

for (const [label, requestChecksumCalculation] of
  [["required: ", "WHEN_REQUIRED"], ["supported: ", "WHEN_SUPPORTED"]]) {
  const c = client({ requestChecksumCalculation });
  const send = (name, input) => c.send(new s3[name + "Command"]({ Bucket, ...input }));
  const text = async (input) => (await (await send("GetObject", input)).Body.transformToString());

  checks[label + "put, head, get, delete"] = async () => {
    const put = await send("PutObject", { Key: "plain", Body: "hello", ContentType: "text/plain",
      Metadata: { color: "blue" } });
    assert.equal(put.ETag, '"5d41402abc4b2a76b9719d911017c592"');
    const head = await send("HeadObject", { Key: "plain" });
    assert.deepEqual([head.ContentLength, head.ContentType, head.Metadata.color],
      [5, "text/plain", "blue"]);
    assert.equal(await text({ Key: "plain" }), "hello");
    await send("DeleteObject", { Key: "plain" });
    await refused("NoSuchKey", 404, send("GetObject", { Key: "plain" }));
    await refused("NotFound", 404, send("HeadObject", { Key: "plain" }));
  };

  checks[label + "a stream goes as aws-chunked and is stored decoded"] = async () => {
    const data = Buffer.alloc(300000, "stream of bytes ");
    await send("PutObject", { Key: "stream", ContentLength: data.length,
      Body: Readable.from([data.subarray(0, 70000), data.subarray(70000)]) });
    const got = await send("GetObject", { Key: "stream" });
    assert.ok(!(got.ContentEncoding ?? "").includes("aws-chunked"));
    assert.ok(Buffer.from(await got.Body.transformToByteArray()).equals(data));
    await send("DeleteObject", { Key: "stream" });
  };

  checks[label + "odd keys come back as they went"] = async () => {
    for (const Key of odd) {
      await send("PutObject", { Key, Body: Key });
      assert.equal(await text({ Key }), Key);
    }
    const seen = [];
    let ContinuationToken;
    do {
      const page = await send("ListObjectsV2", { MaxKeys: 5, EncodingType: "url", ContinuationToken });
      seen.push(...(page.Contents ?? []).map((o) => decodeURIComponent(o.Key.replaceAll("+", " "))));
      ContinuationToken = page.NextContinuationToken;
    } while (ContinuationToken);
    const bytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));
    assert.deepEqual(seen, [...odd].sort(bytes));
    const gone = await send("DeleteObjects", { Delete: { Objects:
      odd.filter((k) => !k.includes("\x01")).map((Key) => ({ Key })) } });
    assert.equal(gone.Deleted.length, odd.length - 1);
    assert.equal(gone.Errors, undefined);
    await send("DeleteObject", { Key: odd.find((k) => k.includes("\x01")) });
    assert.equal((await send("ListObjectsV2", {})).KeyCount, 0);
  };

  checks[label + "ranges are clipped or refused"] = async () => {
    await send("PutObject", { Key: "range", Body: "0123456789" });
    const got = async (Range) => {
      const r = await send("GetObject", { Key: "range", Range });
      return [r.ContentRange, await r.Body.transformToString()];
    };
    assert.deepEqual(await got("bytes=2-4"), ["bytes 2-4/10", "234"]);
    assert.deepEqual(await got("bytes=8-99"), ["bytes 8-9/10", "89"]);
    assert.deepEqual(await got("bytes=-3"), ["bytes 7-9/10", "789"]);
    await refused("InvalidRange", 416, send("GetObject", { Key: "range", Range: "bytes=10-" }));
    await send("DeleteObject", { Key: "range" });
  };

  checks[label + "multipart with a copied part"] = async () => {
    const five = Buffer.alloc(5 << 20, "abcdefg");
    await send("PutObject", { Key: "source", Body: five });
    const { UploadId } = await send("CreateMultipartUpload", { Key: "big", ContentType: "x/y" });
    const one = await send("UploadPart", { Key: "big", UploadId, PartNumber: 1, Body: five });
    const two = await send("UploadPartCopy", { Key: "big", UploadId, PartNumber: 3,
      CopySource: Bucket + "/source", CopySourceRange: "bytes=1-5242880" }).catch((e) => e);
    assert.equal(two.name, "InvalidArgument");
    const three = await send("UploadPartCopy", { Key: "big", UploadId, PartNumber: 3,
      CopySource: Bucket + "/source", CopySourceRange: "bytes=1-100" });
    const Parts = [{ PartNumber: 1, ETag: one.ETag },
      { PartNumber: 3, ETag: three.CopyPartResult.ETag }];
    const complete = (p) => send("CompleteMultipartUpload",
      { Key: "big", UploadId, MultipartUpload: { Parts: p } });
    await refused("InvalidPartOrder", 400, complete([...Parts].reverse()));
    await refused("InvalidPart", 400, complete([{ ...Parts[0], ETag: three.CopyPartResult.ETag }]));
    const done = await complete(Parts);
    assert.match(done.ETag, /^"[0-9a-f]{32}-2"$/);
    const got = await send("GetObject", { Key: "big" });
    assert.equal(got.ContentType, "x/y");
    assert.ok(Buffer.from(await got.Body.transformToByteArray())
      .equals(Buffer.concat([five, five.subarray(1, 101)])));
    await refused("NoSuchUpload", 404, complete(Parts));
    await send("DeleteObjects", { Delete: { Objects: [{ Key: "big" }, { Key: "source" }] } });
  };

  checks[label + "create-only and compare-and-swap writes"] = async () => {
    const first = await send("PutObject", { Key: "once", Body: "1", IfNoneMatch: "*" });
    await refused("PreconditionFailed", 412,
      send("PutObject", { Key: "once", Body: "2", IfNoneMatch: "*" }));
    const second = await send("PutObject", { Key: "once", Body: "3", IfMatch: first.ETag });
    await refused("PreconditionFailed", 412,
      send("PutObject", { Key: "once", Body: "4", IfMatch: first.ETag }));
    assert.equal(await text({ Key: "once", IfMatch: second.ETag }), "3");
    await assert.rejects(text({ Key: "once", IfNoneMatch: second.ETag }),
      (e) => e.$metadata.httpStatusCode === 304);
    await send("DeleteObject", { Key: "once" });
  };

  checks[label + "copy replaces metadata on demand"] = async () => {
    await send("PutObject", { Key: "from +é", Body: "x", Metadata: { a: "1" } });
    const CopySource = Bucket + "/" + encodeURIComponent("from +é");
    await send("CopyObject", { Key: "to", CopySource, MetadataDirective: "REPLACE",
      Metadata: { b: "2" } });
    assert.deepEqual((await send("HeadObject", { Key: "to" })).Metadata, { b: "2" });
    await send("DeleteObjects", { Delete: { Quiet: true,
      Objects: [{ Key: "to" }, { Key: "from +é" }] } });
  };
}

checks["a delimiter rolls keys up, page by page"] = async () => {
  const c = client();
  for (const Key of ["a", "d/1", "d/2", "e", "f/1"])
    await c.send(new s3.PutObjectCommand({ Bucket, Key, Body: Key }));
  const seen = [];
  let ContinuationToken;
  do {
    const page = await c.send(new s3.ListObjectsV2Command({ Bucket, Delimiter: "/", MaxKeys: 1,
      ContinuationToken }));
    assert.equal(page.KeyCount, 1);
    seen.push((page.Contents ?? [])[0]?.Key ?? page.CommonPrefixes[0].Prefix);
    ContinuationToken = page.NextContinuationToken;
  } while (ContinuationToken);
  assert.deepEqual(seen, ["a", "d/", "e", "f/"]);
  const after = await c.send(new s3.ListObjectsV2Command({ Bucket, StartAfter: "d/1" }));
  assert.deepEqual(after.Contents.map((o) => o.Key), ["d/2", "e", "f/1"]);
  await c.send(new s3.DeleteObjectsCommand({ Bucket, Delete: { Objects:
    ["a", "d/1", "d/2", "e", "f/1"].map((Key) => ({ Key })) } }));
};

checks["presigned URLs get and put, and no other object"] = async () => {
  const c = client();
  const put = await getSignedUrl(c, new s3.PutObjectCommand({ Bucket, Key: "p é" }),
    { expiresIn: 60 });
  assert.equal((await fetchAt(put, "PUT", "signed")).status, 200);
  const get = await getSignedUrl(c, new s3.GetObjectCommand({ Bucket, Key: "p é",
    ResponseContentType: "x/y" }), { expiresIn: 60 });
  const got = await fetchAt(get);
  assert.deepEqual([got.text, got.headers["content-type"]], ["signed", "x/y"]);
  assert.equal((await fetchAt(get.replace("x%2Fy", "x%2Fz"))).status, 403);
  const stale = await getSignedUrl(c, new s3.GetObjectCommand({ Bucket, Key: "p é" }),
    { expiresIn: 5, signingDate: new Date(Date.now() - 60000) });
  const late = await fetchAt(stale);
  assert.equal(late.status, 403);
  assert.match(late.text, /<Code>AccessDenied<.*expired/s);
  await c.send(new s3.DeleteObjectCommand({ Bucket, Key: "p é" }));
};

checks["wrong secret, unknown key, wrong region, skewed clock are refused"] = async () => {
  const get = (more) => client(more).send(new s3.GetObjectCommand({ Bucket, Key: "x" }));
  const keys = { accessKeyId: process.env.TM_OSSD_ID, secretAccessKey: "wrong" };
  await refused("SignatureDoesNotMatch", 403, get({ credentials: keys }));
  await refused("InvalidAccessKeyId", 403, get({ credentials: { ...keys, accessKeyId: "no" } }));
  await refused("AuthorizationHeaderMalformed", 400, get({ region: "us-east-1" }));
  await refused("RequestTimeTooSkewed", 403, get({ systemClockOffset: -1000000 }));
};

checks["a temporary key needs its token"] = async () => {
  const keys = { accessKeyId: process.env.TM_OSSD_STS_ID,
    secretAccessKey: process.env.TM_OSSD_STS_SECRET };
  const list = (credentials) =>
    client({ credentials }).send(new s3.ListObjectsV2Command({ Bucket }));
  await list({ ...keys, sessionToken: process.env.TM_OSSD_STS_TOKEN });
  await refused("InvalidToken", 400, list(keys));
};

const owner = client();
await owner.send(new s3.CreateBucketCommand({ Bucket }));
const failed = await run();
if (failed) process.exit(failed);
await owner.send(new s3.DeleteBucketCommand({ Bucket }));
console.log("ok the bucket is deleted once it is empty");
