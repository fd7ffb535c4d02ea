// A list of checks by name, run one after the other.
import { randomBytes } from "node:crypto";
import { request } from "node:http";

export const checks = {};

export const random = (n) => randomBytes(n).toString("hex").slice(0, n);

export async function run() {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log("ok " + name);
    } catch (e) {
      failed = 1;
      console.log(`FAILED ${name}: ${String(e.stack ?? e).replaceAll("\n", " | ").slice(0, 1500)}`);
    }
  }
  return failed;
}

// Sends to the loopback address whatever host the URL names, path and query untouched.
export function fetchAt(url, method = "GET", body = undefined, headers = {}) {
  const [, host, path] = /^http:\/\/([^/]+)(\/?.*)$/s.exec(url);
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port: new URL(process.env.TM_OSSD).port, path,
      method, headers: { Host: host, ...headers } }, (got) => {
      const pieces = [];
      got.on("data", (piece) => pieces.push(piece)).on("error", reject).on("end", () =>
        resolve({ status: got.statusCode, headers: got.headers,
          text: Buffer.concat(pieces).toString() }));
    });
    sent.on("error", reject).end(body);
  });
}
