-- Gives transcoded answers the status and body that the backend asked for in its metadata:
--   x-http-code  the HTTP status           x-http-body  the body, JSON in ASCII
-- and an error that asked for nothing (one that no interceptor of the backend saw) a general body: the transcoder would
-- print its text. Other metadata, such as retry-after, reaches the client as headers by itself. Answers to native gRPC and
-- gRPC-Web callers pass unchanged, and so do Envoy's own answers, which local_reply_config has shaped.
-- Before that, takes from the requests of REST callers the headers that the backend would break off the call for.

local GENERAL = {
  ["400"] = {"BadRequest", "the request is not valid"},
  ["401"] = {"Unauthorized", "valid credentials are needed"},
  ["403"] = {"Forbidden", "these credentials do not allow this"},
  ["404"] = {"NotFound", "there is nothing here"},
  ["409"] = {"Conflict", "the request is in conflict with the present state"},
  ["413"] = {"PayloadTooLarge", "the request is too large"},
  ["429"] = {"TooManyRequests", "there are too many requests"},
  ["501"] = {"NotImplemented", "this is not implemented yet"},
  ["503"] = {"ServiceUnavailable", "the server cannot answer now"},
  ["504"] = {"Timeout", "the server did not answer in time"},
}
local UNKNOWN = {"InternalServerError", "the request could not be handled"}

local OURS = {
  "x-http-code", "x-http-body", "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-accept-encoding",
  "x-envoy-upstream-service-time",
}

local function is_grpc(headers)
  return (headers:get("content-type") or ""):find("application/grpc", 1, true) == 1
end

-- What a gRPC server takes for a mistake of its gateway, and answers by breaking off the call: names with characters that
-- gRPC does not have, and names that mean something to gRPC alone, with values that only gRPC clients get right.
local function is_refused_by_grpc(name)
  return name:find("[^0-9a-z_.:-]") or name:find("^grpc%-") or name:find("%-bin$")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if is_grpc(headers) then
    return
  end
  local refused = {}
  for name in pairs(headers) do
    if is_refused_by_grpc(name) then
      refused[#refused + 1] = name
    end
  end
  for _, name in ipairs(refused) do
    headers:remove(name)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if is_grpc(headers) then
    return
  end
  local status = headers:get("x-http-code")
  local body = headers:get("x-http-body")
  local from_backend = headers:get("x-envoy-upstream-service-time") ~= nil
  if status == nil and from_backend and tonumber(headers:get(":status")) >= 400 then
    status = headers:get(":status")
    local known = GENERAL[status] or UNKNOWN
    body = string.format('{"error":{"code":"%s","message":"%s"}}', known[1], known[2])
  end

  -- All headers come before body(): once it has waited for the rest, this handle on them is dead.
  for _, name in ipairs(OURS) do
    headers:remove(name)
  end
  if status == nil then
    return
  end
  headers:replace(":status", status)
  if status == "204" then
    headers:remove("content-type")
    handle:body(true):setBytes("")
    handle:headers():remove("content-length")
  elseif body ~= nil then
    headers:replace("content-type", "application/json")
    handle:body(true):setBytes(body)
  end
end
