-- Asks Halligan's daemon about a request (HAProxy 2.6 or newer), and refuses it unless the answer is 200:
--   http-request lua.halligan URL
-- where URL is that of /v1/authorize/DEPLOYMENT_ID on the daemon.

-- Headers have a list of values each, in HAProxy's Lua counted from 0.
local function list(values)
    local copied = {}
    if values ~= nil then
        for at = 0, #values do copied[#copied + 1] = values[at] end
    end
    return copied
end

local function refuse(txn, status, headers, body)
    local reply = txn:reply()
    reply:set_status(status)
    for name, values in pairs(headers or {}) do
        -- What frames a message is for HAProxy to say.
        if name ~= "content-length" and name ~= "transfer-encoding" and name ~= "connection" then
            for _, value in pairs(values) do reply:add_header(name, value) end
        end
    end
    reply:set_body(body or "")
    txn:done(reply)
end

core.register_action("halligan", { "http-req" }, function(txn, url)
    local sent = txn.http:req_get_headers()
    local asked = {
        ["x-original-method"] = { txn.sf:method() },
        ["x-original-uri"] = { txn.sf:pathq() },
        ["x-original-host"] = list(sent["host"]),
        ["x-real-ip"] = { txn.sf:src() },
    }
    -- All of them: two tokens are none, and that is for the daemon to say.
    if sent["authorization"] ~= nil then asked["authorization"] = list(sent["authorization"]) end
    local answer = core.httpclient():get({ url = url, headers = asked, timeout = 5000 })
    if answer == nil or answer.status ~= 200 then
        local refused = answer ~= nil and (answer.status == 401 or answer.status == 403
            or answer.status == 429 or answer.status == 503)
        -- Whatever else comes, or nothing: no answer is a no.
        if refused then
            refuse(txn, answer.status, answer.headers, answer.body)
        else
            refuse(txn, 503)
        end
        return
    end
    for _, name in ipairs({ "x-halligan-token-id", "x-halligan-role", "x-halligan-deployment", "x-halligan-event-id" }) do
        local values = answer.headers[name]
        if values ~= nil then txn.http:req_set_header(name, values[0]) end
    end
    -- What the daemon vouches with, or nothing: the caller's token ends here.
    txn.http:req_del_header("authorization")
    local vouched = answer.headers["authorization"]
    if vouched ~= nil and vouched[0] ~= nil and vouched[0] ~= "" then
        txn.http:req_set_header("authorization", vouched[0])
    end
end, 1)
