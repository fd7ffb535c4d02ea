return [[
# Exit codes

    0    success
    1    a run failed, or any other error
    2    usage, or an invalid flow or project file
    3    cannot connect, or refused there: wrong password or key, no right to the store
    130  interrupted (Ctrl-C)

Errors go to standard error: "tidemill: error: MESSAGE", indented details such as SQLSTATE, HTTP
status and request id, and where there is advice "hint: ...".
]]
