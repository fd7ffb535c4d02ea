return [[
# Hooks

on_success, on_failure and on_late of a flow tell others that a run ended, or that it or one of its nodes
passed its deadline:

    on_failure = {
      { webhook = "alerts" },             -- a connection of tidemill.lua
      { shell = "logger \"$TIDEMILL_FLOW failed: $TIDEMILL_MESSAGE\"" },
      { email = { "data@example.com" }, subject = "orders failed" },
    }

Who is to be told is recorded in the same transaction as the run's end, so nothing is forgotten and
nothing is told that did not happen. `tidemill serve` sends it, each notice in a process of its
own; a command that runs flows in a terminal sends what its own runs want before it ends, for 10 s at
most. A try that fails is repeated after 5 s, 30 s, 2 min, 10 min, 20 min and 30 min, then given
up; `tidemill why RUN` shows each. So a notice may come twice, after a crash for instance: the
webhook-id tells. What a runner that died was sending, another one sends.

A trial run (`tidemill run`) sends nothing without --hooks, nor do its subflows. Cancelled runs tell
nobody.

## Webhooks

    connections = { alerts = { webhook = env "ALERTS_URL", secret = env "ALERTS_SECRET" } }

A POST of JSON; any status from 200 to 299 within 30 s is a success, redirects are not followed, 410
ends the tries. Certificates are verified.

    event         success, failure or late     run           its id
    node          that is late; absent when it is the run
    flow, flow_version, timezone               cause         schedule, event, backfill, manual ...
    state         of the run                   message       why it failed
    scheduled, business, started, ended        UTC, as 2026-01-31T04:05:06.789Z
    failed_nodes  list of node, attempt, message, kind, code; at most 20, of failed_count
    version, host of the tidemill that tells

It is signed as standardwebhooks.com says; any library of theirs verifies it:

    webhook-id         the same for every try
    webhook-timestamp  seconds since 1970
    webhook-signature  "v1," and the base64 of HMAC-SHA256(key, "ID.TIMESTAMP.BODY")

The key is what stands behind "whsec_" in the secret, decoded from base64; a secret without that
word is the key as it stands. URL and secret are looked up when a notice is sent and are never
recorded.

## Commands

Run by /bin/sh in the folder of tidemill.lua, for 60 s at most; exit code 0 is a success. They know the
notice from the environment: TIDEMILL_EVENT, _NODE, _FLOW, _FLOW_VERSION, _RUN, _STATE, _CAUSE, _SCHEDULED,
_BUSINESS, _STARTED, _ENDED, _TIMEZONE, _MESSAGE, _FAILED_NODES (a line each), _VERSION, _HOST; and
have the webhook's JSON on standard input. Nothing is put into the command's text.

## E-mail

Goes to `sendmail -t -i`: /usr/sbin/sendmail, or the program that tidemill.lua names:

    return { connections = { ... }, sendmail = "/usr/bin/msmtp" }
]]
