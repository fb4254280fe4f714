-- Asks Halligan's daemon about a request (HAProxy 2.6 or newer), and refuses it unless the answer is 200:
--   http-request lua.halligan URL
-- where URL has the daemon's address, /v1/authorize/ and the deployment's id.

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
    -- All of them: two tokens are none, and that is for the daemon to say. By the others it tells a browser, its session, and
    -- who made it ask.
    for _, name in ipairs({ "authorization", "cookie", "accept", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest" }) do
        if sent[name] ~= nil then asked[name] = list(sent[name]) end
    end
    local answer = core.httpclient():get({ url = url, headers = asked, timeout = 5000 })
    if answer == nil or answer.status ~= 200 then
        local refused = answer ~= nil and (answer.status == 303 or answer.status == 401 or answer.status == 403
            or answer.status == 429 or answer.status == 503)
        -- Whatever else comes, or nothing: no answer is a no.
        if refused then
            -- A person who is denied is led to a page of the daemon.
            local status = answer.headers["location"] ~= nil and 303 or answer.status
            refuse(txn, status, answer.headers, answer.body)
        else
            refuse(txn, 503)
        end
        return
    end
    for _, name in ipairs({ "x-halligan-token-id", "x-halligan-role", "x-halligan-deployment", "x-halligan-event-id" }) do
        local values = answer.headers[name]
        if values ~= nil then txn.http:req_set_header(name, values[0]) end
    end
    -- What the daemon vouches with, or nothing: the caller's token ends here. So does its session: the deployment gets all other
    -- cookies, but not the one in which Airflow would read a token.
    for _, name in ipairs({ "authorization", "cookie" }) do
        txn.http:req_del_header(name)
        local given = answer.headers[name]
        if given ~= nil and given[0] ~= nil and given[0] ~= "" then txn.http:req_set_header(name, given[0]) end
    end
    -- A browser's session, with its idle time counted anew: haproxy.cfg adds it to the deployment's answer.
    local renewed = answer.headers["set-cookie"]
    if renewed ~= nil and renewed[0] ~= nil then txn:set_var("txn.halligan_session", renewed[0]) end
end, 1)
