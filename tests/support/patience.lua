--- How long tests wait before they call something too slow: a machine may be slow, busy or run a sanitizer.
---
---     local patience = require "tests.support.patience"
---     lu.assertTrue(took_ms < patience * 2000)
---
--- Only for bounds that nothing runs into when all is well: of waits for a condition, and of times whose
--- alternative takes far longer still.

return (os.getenv "TM_SANITIZER" or "") ~= "" and 15 or 5
